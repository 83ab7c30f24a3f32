/* Settings by the longest path, with a delay at each change of clock on a device. Says what training/_choices.py says. */
#include "kernels.h"

static double reached(const i64 *order, i64 n, const i64 *pointer, const i64 *before, const i64 *row, const i64 *pick,
                      const double *time, const i64 *enter, const i64 *leave, double latency, double *start) {
    double finish = 0.0;
    for (i64 i = 0; i < n; i++) {
        i64 v = order[i];
        double latest = 0.0;
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            i64 u = before[k];
            latest = most(latest, start[u] + time[pick[u]]);
        }
        if (latency > 0.0 && row[v] >= 0 && leave[pick[row[v]]] != enter[pick[v]])
            latest = most(latest, start[row[v]] + time[pick[row[v]]] + latency);
        start[v] = latest;
        finish = most(finish, latest + time[pick[v]]);
    }
    return finish;
}

KERNEL double choices_reach(const i64 *order, i64 order_n, const i64 *pointer, const i64 *before, const i64 *row,
                            const i64 *pick, const double *time, const i64 *enter, const i64 *leave, double latency,
                            double *start) {
    return reached(order, order_n, pointer, before, row, pick, time, enter, leave, latency, start);
}

KERNEL i64 choices_slow(const i64 *order, i64 order_n, const i64 *pointer, const i64 *before, const i64 *row,
                        const i64 *onward, const i64 *after, const i64 *following, const i64 *kind, const double *rest,
                        double deadline, double rate, double latency, i64 *pick, const i64 *first, const double *time,
                        const double *energy, const i64 *enter, const i64 *leave) {
    double *start = NEW(double, order_n);
    i64 changed = 0;
    for (i64 i = 0; i < order_n; i++) {
        i64 v = order[i], p = row[v], q = following[v], now = pick[v];
        double latest = 0.0, tail = 0.0;
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            i64 u = before[k];
            latest = most(latest, start[u] + time[pick[u]]);
        }
        for (i64 k = onward[v]; k < onward[v + 1]; k++) {
            i64 w = after[k];
            tail = most(tail, time[pick[w]] + rest[w]);
        }
        i64 best = now;
        double best_gain = 0.0;
        for (i64 o = first[kind[v]]; o < first[kind[v] + 1]; o++) {
            double gain = energy[now] - energy[o];
            if (gain <= best_gain || gain < rate * (time[o] - time[now])) continue;
            double begin = latest;
            if (latency > 0.0 && p >= 0 && leave[pick[p]] != enter[o])
                begin = most(begin, start[p] + time[pick[p]] + latency);
            double end = begin + time[o];
            if (end + tail > deadline) continue;
            if (latency > 0.0 && q >= 0 && leave[o] != enter[pick[q]] &&
                end + latency + time[pick[q]] + rest[q] > deadline)
                continue;
            best = o;
            best_gain = gain;
        }
        if (best != now) {
            changed++;
            pick[v] = best;
        }
        double begin = latest;
        if (latency > 0.0 && p >= 0 && leave[pick[p]] != enter[pick[v]])
            begin = most(begin, start[p] + time[pick[p]] + latency);
        start[v] = begin;
    }
    free(start);
    return changed;
}

KERNEL void choices_steady(const i64 *rows, const i64 *ends, i64 ends_n, const i64 *kind, const double *price,
                           double latency, const i64 *first, const double *time, const double *energy,
                           const i64 *enter, const i64 *leave, i64 clocks, i64 *come, i64 come_m, i64 *pick) {
    double *cost = NEW(double, come_m), *fresh = NEW(double, come_m), *held = NEW(double, clocks);
    i64 *by = NEW(i64, clocks);
    i64 begin = 0;
    for (i64 e = 0; e < ends_n; e++) {
        i64 stop = ends[e];
        for (i64 o = 0; o < come_m; o++) cost[o] = 0.0;
        for (i64 c = 0; c < clocks; c++) {
            held[c] = INFINITY;
            by[c] = 0;
        }
        for (i64 i = begin; i < stop; i++) {
            i64 v = rows[i], which = 0;
            double cheapest = INFINITY;
            if (i > begin) {
                for (i64 c = 0; c < clocks; c++) held[c] = INFINITY;
                i64 f = first[kind[rows[i - 1]]];
                for (i64 o = f; o < first[kind[rows[i - 1]] + 1]; o++) {
                    double c = cost[o - f];
                    if (c < cheapest) {
                        cheapest = c;
                        which = o;
                    }
                    if (c < held[leave[o]]) {
                        held[leave[o]] = c;
                        by[leave[o]] = o;
                    }
                }
            }
            i64 f = first[kind[v]];
            for (i64 o = f; o < first[kind[v] + 1]; o++) {
                double c = energy[o] + price[v] * time[o];
                if (i > begin) {
                    double stay = held[enter[o]], change = cheapest + latency * price[v];
                    come[i * come_m + o - f] = stay <= change ? by[enter[o]] : which;
                    c += least(stay, change);
                }
                fresh[o - f] = c;
            }
            double *other = cost;
            cost = fresh;
            fresh = other;
        }
        if (stop > begin) {
            i64 v = rows[stop - 1], f = first[kind[v]], o = f;
            for (i64 x = f; x < first[kind[v] + 1]; x++)
                if (cost[x - f] < cost[o - f]) o = x;
            for (i64 i = stop - 1; i >= begin; i--) {
                pick[rows[i]] = o;
                o = come[i * come_m + o - first[kind[rows[i]]]];
            }
        }
        begin = stop;
    }
    free(cost);
    free(fresh);
    free(held);
    free(by);
}

/* A graph whose settings go by groups, and the budget of longest paths that a search may still compute. */
typedef struct Groups {
    i64 *choice;
    const i64 *of, *group, *kind, *order, *pointer, *before, *row, *enter, *leave;
    const double *time;
    i64 kinds, order_n, of_m;
    double latency;
    i64 *pick;
    double *start;
} Groups;

static double finish(const Groups *g) {
    for (i64 v = 0; v < g->kinds; v++) g->pick[v] = g->of[g->kind[v] * g->of_m + g->choice[g->group[g->kind[v]]]];
    return reached(g->order, g->order_n, g->pointer, g->before, g->row, g->pick, g->time, g->enter, g->leave,
                   g->latency, g->start);
}

KERNEL double choices_together(i64 *choice, const i64 *of, i64 of_m, const i64 *group, const double *cost, i64 cost_n,
                               i64 cost_m, const double *work, const i64 *kind, i64 kind_n, const i64 *order,
                               i64 order_n, const i64 *pointer, const i64 *before, const i64 *row, const double *time,
                               const i64 *enter, const i64 *leave, double latency, double deadline, i64 way,
                               i64 window, i64 budget) {
    Groups all = {choice, of,   group,  kind,    order, pointer, before,               row, enter, leave,
                  time,   kind_n, order_n, of_m, latency, NEW(i64, kind_n), NEW(double, kind_n)};
    i64 spent = 0;
    double now = finish(&all);
    while (spent < budget) {
        i64 best = -1, at = -1;
        double score = 0.0;
        for (i64 g = 0; g < cost_n; g++) {
            i64 c0 = choice[g];
            for (i64 c = c0 + 1; c < lower(c0 + 1 + window, cost_m); c++) {
                double gain = cost[g * cost_m + c0] - cost[g * cost_m + c];
                if (!(gain > 0.0)) continue;
                choice[g] = c;
                double end = finish(&all);
                spent++;
                choice[g] = c0;
                if (end > deadline) continue;
                double more = work[g * cost_m + c] - work[g * cost_m + c0], weight = 1.0;
                if (way == 0)
                    weight = most(end - now, 0.0) + 1e-3 * more + 1e-300;
                else if (way == 1)
                    weight = more + 1e-300;
                if (gain / weight > score) {
                    best = g;
                    at = c;
                    score = gain / weight;
                }
            }
        }
        if (best >= 0) {
            choice[best] = at;
            now = finish(&all);
            continue;
        }
        bool traded = false;
        for (i64 g = 0; g < cost_n; g++) {
            i64 c0 = choice[g];
            for (i64 c = c0 + 1; c < lower(c0 + 1 + window, cost_m); c++) {
                double gain = cost[g * cost_m + c0] - cost[g * cost_m + c];
                if (!(gain > 0.0) || traded || spent >= budget) continue;
                for (i64 h = 0; h < cost_n; h++) {
                    if (h == g || traded) continue;
                    i64 d0 = choice[h];
                    for (i64 d = d0 - 1; d > higher(d0 - 1 - window, -1); d--) {
                        if (!(cost[h * cost_m + d] - cost[h * cost_m + d0] < gain * (1.0 - 1e-9))) continue;
                        choice[g] = c;
                        choice[h] = d;
                        double end = finish(&all);
                        spent++;
                        if (end <= deadline) {
                            traded = true;
                            now = end;
                            break;
                        }
                        choice[g] = c0;
                        choice[h] = d0;
                    }
                }
            }
        }
        if (!traded) break;
    }
    free(all.pick);
    free(all.start);
    double total = 0.0;
    for (i64 g = 0; g < cost_n; g++) total += cost[g * cost_m + choice[g]];
    return total;
}
