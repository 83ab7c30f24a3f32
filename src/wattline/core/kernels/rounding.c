/* One discrete option per node of a graph so that its longest path meets a deadline. Says what frontier/_rounding.py
 * says, which explains it. */
#include "heap.h"
#include "kernels.h"

KERNEL void rounding_neighbours(i64 count, const i64 *edges, i64 edges_n, i64 *pointer, i64 *ends) {
    for (i64 k = 0; k < edges_n; k++) pointer[edges[2 * k] + 2]++;
    for (i64 v = 0; v < count; v++) pointer[v + 2] += pointer[v + 1];
    for (i64 k = 0; k < edges_n; k++) ends[pointer[edges[2 * k] + 1]++] = edges[2 * k + 1];
}

static void longest(const i64 *order, i64 n, const i64 *pointer, const i64 *before, const i64 *pick,
                    const double *time, double *reach) {
    for (i64 i = 0; i < n; i++) {
        i64 v = order[i];
        double latest = 0.0;
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            i64 u = before[k];
            latest = most(latest, reach[u] + time[pick[u]]);
        }
        reach[v] = latest;
    }
}

KERNEL void rounding_longest(const i64 *order, i64 order_n, const i64 *pointer, const i64 *before, const i64 *pick,
                             const double *time, double *reach) {
    longest(order, order_n, pointer, before, pick, time, reach);
}

KERNEL void rounding_diffuse(const i64 *order, i64 order_n, const i64 *pointer, const i64 *before, const i64 *node,
                             const double *end, const double *price, const i64 *first, const double *time,
                             const double *energy, i64 *pick) {
    double *reach = NEW(double, order_n);
    for (i64 i = 0; i < order_n; i++) {
        i64 v = order[i];
        double latest = 0.0;
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) latest = most(latest, reach[before[k]]);
        i64 best = first[node[v]];
        double cost = energy[best] + price[v] * time[best];
        for (i64 o = best + 1; o < first[node[v] + 1]; o++) {
            if (latest + time[o] > end[v]) break;
            double c = energy[o] + price[v] * time[o];
            if (c <= cost + 1e-9 * fabs(cost)) {
                best = o;
                cost = c;
            }
        }
        pick[v] = best;
        reach[v] = latest + time[best];
    }
    free(reach);
}

/* `reach` is written before it is read, whatever is in it. */
static void reclaim(const i64 *order, i64 n, const i64 *pointer, const i64 *before, const i64 *node,
                    const double *after, double deadline, const double *rates, i64 *pick, const i64 *first,
                    const double *time, const double *energy, double *reach) {
    for (i64 i = 0; i < n; i++) {
        i64 v = order[i];
        double latest = 0.0;
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) latest = most(latest, reach[before[k]]);
        i64 now = pick[v], best = now;
        for (i64 o = now + 1; o < first[node[v] + 1]; o++) {
            if (latest + time[o] + after[v] > deadline) break;
            if (energy[now] - energy[o] >= rates[v] * (time[o] - time[now])) best = o;
        }
        pick[v] = best;
        reach[v] = latest + time[best];
    }
}

KERNEL void rounding_reclaim(const i64 *order, i64 order_n, const i64 *pointer, const i64 *before, const i64 *node,
                             const double *after, double deadline, const double *rates, i64 *pick, const i64 *first,
                             const double *time, const double *energy) {
    double *reach = NEW(double, order_n);
    reclaim(order, order_n, pointer, before, node, after, deadline, rates, pick, first, time, energy, reach);
    free(reach);
}

KERNEL void rounding_shake(const i64 *ahead, const i64 *before, const i64 *sources, const i64 *behind,
                           const i64 *after, const i64 *targets, const i64 *node, i64 node_n, double deadline,
                           const double *prices, i64 width, i64 rounds, Random *random, i64 *pick, const i64 *first,
                           const double *time, const double *energy) {
    i64 n = node_n, *trial = NEW(i64, n);
    double *rates = NEW(double, n), *rest = NEW(double, n), *reach = NEW(double, n);
    for (i64 round = 0; round < rounds; round++) {
        memcpy(trial, pick, (size_t)n * sizeof(i64));
        i64 start = (i64)(draw(random) * (double)n);
        i64 stop = lower(n, start + 1 + (i64)(draw(random) * (double)width));
        for (i64 v = start; v < stop; v++)
            if (trial[v] > first[node[v]] && draw(random) < 0.4) trial[v]--;
        double eager = draw(random);
        for (int turn = 0; turn < 3; turn++) {
            for (i64 v = 0; v < n; v++) rates[v] = turn < 2 ? prices[v] * eager * draw(random) : 0.0;
            eager *= 0.3;
            if ((turn + start) % 2 == 0) {
                longest(behind, n, after, targets, trial, time, rest);
                reclaim(ahead, n, before, sources, node, rest, deadline, rates, trial, first, time, energy, reach);
            } else {
                longest(ahead, n, before, sources, trial, time, rest);
                reclaim(behind, n, after, targets, node, rest, deadline, rates, trial, first, time, energy, reach);
            }
        }
        double change = 0.0;
        for (i64 v = 0; v < n; v++) change += energy[trial[v]] - energy[pick[v]];
        if (change <= 0.0) memcpy(pick, trial, (size_t)n * sizeof(i64));
    }
    free(trial);
    free(rates);
    free(rest);
    free(reach);
}

/* A graph whose nodes are numbered in topological order, the picks, and what updates of paths need. */
typedef struct Trade {
    const i64 *pick;
    const double *time;
    i64 *keys; /* a heap of nodes: keys are their own values */
    i8 *waits;
    i64 *log;
    double *was;
} Trade;

static i64 spread(const Trade *t, const i64 changed[2], i64 sign, const i64 *pointer, const i64 *sources,
                  const i64 *onward, const i64 *targets, i64 last, double deadline, double *reach,
                  const double *other, bool *met) {
    i64 waiting = 0, logged = 0;
    bool fits = true;
    for (int c = 0; c < 2; c++)
        for (i64 k = onward[changed[c]]; k < onward[changed[c] + 1]; k++)
            if (!t->waits[targets[k]]) {
                t->waits[targets[k]] = 1;
                push(t->keys, t->keys, waiting++, sign * targets[k], sign * targets[k]);
            }
    while (waiting > 0) {
        i64 v = sign * t->keys[0];
        pop(t->keys, t->keys, waiting--);
        t->waits[v] = 0;
        if (!fits) continue;
        double latest = 0.0;
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            i64 u = sources[k];
            latest = most(latest, reach[u] + t->time[t->pick[u]]);
        }
        if (latest == reach[v]) continue;
        t->log[logged] = v;
        t->was[logged] = reach[v];
        logged++;
        reach[v] = latest;
        double rest = sign * v > sign * last ? other[v] : 0.0;
        fits = latest + t->time[t->pick[v]] + rest <= deadline;
        for (i64 k = onward[v]; k < onward[v + 1]; k++)
            if (!t->waits[targets[k]]) {
                t->waits[targets[k]] = 1;
                push(t->keys, t->keys, waiting++, sign * targets[k], sign * targets[k]);
            }
    }
    *met = fits;
    return logged;
}

KERNEL bool rounding_blocked(i64 sign, i64 i, const i64 *walk, i64 walk_n, const i64 *pointer, const i64 *ends,
                             const i64 *pick, const double *time, const double *reach, double most) {
    i64 last = walk[walk_n - 1], v = i;
    double tail = 0.0;
    for (i64 k = 0; k < walk_n; k++) {
        for (i64 y = pointer[v]; y < pointer[v + 1]; y++) {
            i64 w = ends[y];
            if (w == walk[k] || tail + time[pick[w]] + reach[w] <= most) continue;
            /* Follow the path that makes `reach[w]`; past `last` in the order it cannot meet it any more. */
            i64 u = w;
            while (sign * u > sign * last) {
                i64 onward = -1;
                double longest = -1.0;
                for (i64 x = pointer[u]; x < pointer[u + 1]; x++) {
                    i64 z = ends[x];
                    if (reach[z] + time[pick[z]] > longest) {
                        onward = z;
                        longest = reach[z] + time[pick[z]];
                    }
                }
                if (onward < 0) return true;
                u = onward;
            }
            if (u != last) return true;
        }
        v = walk[k];
        tail += time[pick[v]];
    }
    return false;
}

KERNEL double rounding_trade(const i64 *pointer, const i64 *sources, const i64 *onward, const i64 *targets,
                             const i64 *node, i64 node_n, double *reach, double *after, double deadline, i64 steps,
                             i64 *pick, const i64 *first, const double *time, const double *energy) {
    i64 n = node_n;
    Trade t = {pick, time, NEW(i64, n + 1), NEW(i8, n), NEW(i64, n), NEW(double, n)};
    i64 *partners = NEW(i64, 2 * steps);
    double near = 1e-9 * deadline, saved = 0.0;
    for (i64 i = 0; i < n; i++) {
        i64 found = 0, v = i;
        for (i64 s = 0; s < steps; s++) {
            i64 tight = -1;
            for (i64 k = onward[v]; k < onward[v + 1]; k++) {
                i64 w = targets[k];
                if (reach[w] <= reach[v] + time[pick[v]] + near && (tight < 0 || after[w] > after[tight])) tight = w;
            }
            if (tight < 0) break;
            v = tight;
            partners[found++] = v;
        }
        i64 after_i = found; /* partners up to here follow i, the others precede it */
        v = i;
        for (i64 s = 0; s < steps; s++) {
            i64 tight = -1;
            for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
                i64 w = sources[k];
                if (reach[v] <= reach[w] + time[pick[w]] + near && (tight < 0 || reach[w] > reach[tight])) tight = w;
            }
            if (tight < 0) break;
            v = tight;
            partners[found++] = v;
        }
        for (i64 slower = 1; slower < 4; slower++) {
            i64 up = pick[i] + slower;
            if (up >= first[node[i] + 1]) break;
            double gain = energy[pick[i]] - energy[up];
            double lack = reach[i] + time[up] + after[i] - deadline;
            bool done = false;
            for (i64 q = 0; q < found; q++) {
                i64 j = partners[q], old_i = pick[i], old_j = pick[j], down = old_j - 1;
                while (down >= first[node[j]] && time[old_j] - time[down] < lack) down--;
                if (down < first[node[j]] || energy[down] - energy[old_j] >= gain * (1 - 1e-9)) continue;
                if (q < after_i) {
                    double limit = deadline - time[up] - reach[i] + near;
                    if (rounding_blocked(-1, i, partners, q + 1, onward, targets, pick, time, after, limit)) continue;
                } else {
                    double limit = deadline - time[up] - after[i] + near;
                    if (rounding_blocked(1, i, partners + after_i, q + 1 - after_i, pointer, sources, pick, time,
                                         reach, limit))
                        continue;
                }
                pick[i] = up;
                pick[j] = down;
                i64 changed[2] = {lower(i, j), higher(i, j)}, last = changed[1];
                bool fits = reach[changed[0]] + time[pick[changed[0]]] <= deadline, met;
                i64 logged = spread(&t, changed, 1, pointer, sources, onward, targets, last, deadline, reach, after,
                                    &met);
                if (fits && met && reach[last] + time[pick[last]] + after[last] <= deadline) {
                    spread(&t, changed, -1, onward, targets, pointer, sources, 0, INFINITY, after, reach, &met);
                    saved += gain - (energy[down] - energy[old_j]);
                    done = true;
                    break;
                }
                for (i64 k = 0; k < logged; k++) reach[t.log[k]] = t.was[k];
                pick[i] = old_i;
                pick[j] = old_j;
            }
            if (done) break;
        }
    }
    free(t.keys);
    free(t.waits);
    free(t.log);
    free(t.was);
    free(partners);
    return saved;
}
