/* Moves many events of a graph at once: exact along trees of them. Says what frontier/_forest.py says, which explains
 * it. */
#include "kernels.h"

/* A graph of events and arcs, a round's forest among the events, and the tables that are passed along it. */
typedef struct {
    i64 n, arcs, half, size;
    const i64 *tail, *head, *kind, *pointer, *arc, *first;
    const double *time, *energy;
    double step;
    double *tau, *weight, *cost, *best;
    i64 *root, *order, *parent, *shift, *stack;
    i8 *inside, *seen;
} Forest;

static i64 root_of(i64 *root, i64 v) {
    while (root[v] != v) v = root[v] = root[root[v]];
    return v;
}

static i64 other(const Forest *f, i64 a, i64 v) { return f->tail[a] == v ? f->head[a] : f->tail[a]; }

/* Whether `v` would join two events that a tree joins already; its trees are joined where not. */
static bool closes(Forest *f, i64 v) {
    for (i64 k = f->pointer[v]; k < f->pointer[v + 1]; k++) {
        i64 u = other(f, f->arc[k], v);
        if (!f->inside[u]) continue;
        for (i64 j = f->pointer[v]; j < k; j++) {
            i64 w = other(f, f->arc[j], v);
            if (f->inside[w] && root_of(f->root, w) == root_of(f->root, u)) return true;
        }
    }
    for (i64 k = f->pointer[v]; k < f->pointer[v + 1]; k++) {
        i64 u = other(f, f->arc[k], v);
        if (f->inside[u]) f->root[root_of(f->root, u)] = v;
    }
    f->inside[v] = 1;
    return false;
}

/* Choose a forest among the events `from` to `to`, in random order; returns how many, each after its parent. */
static i64 grow(Forest *f, i64 from, i64 to, Random *random, i64 *mixed) {
    i64 count = to - from, found = 0;
    for (i64 v = 0; v < f->n; v++) {
        f->root[v] = v;
        f->inside[v] = f->seen[v] = 0;
    }
    for (i64 i = 0; i < count; i++) mixed[i] = from + i;
    for (i64 i = count - 1; i > 0; i--) {
        i64 j = (i64)(draw(random) * (double)(i + 1)), kept = mixed[i];
        mixed[i] = mixed[j];
        mixed[j] = kept;
    }
    for (i64 i = 0; i < count; i++) closes(f, mixed[i]);
    for (i64 i = 0; i < count; i++) {
        if (!f->inside[mixed[i]] || f->seen[mixed[i]]) continue;
        i64 waiting = 0;
        f->stack[waiting++] = mixed[i];
        f->seen[mixed[i]] = 1;
        f->parent[mixed[i]] = -1;
        while (waiting) {
            i64 v = f->stack[--waiting];
            f->order[found++] = v;
            for (i64 k = f->pointer[v]; k < f->pointer[v + 1]; k++) {
                i64 a = f->arc[k], u = other(f, a, v);
                if (!f->inside[u] || f->seen[u]) continue;
                f->seen[u] = 1;
                f->parent[u] = a;
                f->stack[waiting++] = u;
            }
        }
    }
    return found;
}

/* Add to `cost` what arc `a` costs with `v` at each shift, the event at its other end fixed or at its best. */
static void pass(const Forest *f, i64 v, i64 a, double *cost, double *found) {
    bool out = f->tail[a] == v;
    i64 u = other(f, a, v), half = f->half, size = f->size, reach = f->inside[u] ? 2 * half : half;
    double gap = f->tau[f->head[a]] - f->tau[f->tail[a]];
    const double *best = f->best + u * size;
    for (i64 k = 0; k < size; k++) found[k] = INFINITY;
    for (i64 o = f->first[f->kind[a] + 1] - 1; o >= f->first[f->kind[a]]; o--) {
        double spare = floor((gap - f->time[o]) / f->step + 1e-8);
        if (spare < (double)-reach) continue;
        i64 q = spare >= (double)reach ? reach : (i64)spare;
        double e = f->energy[o] * f->weight[a];
        if (!f->inside[u] && out) {
            for (i64 k = 0; k <= lower(size - 1, q + half); k++) found[k] = least(found[k], e);
        } else if (!f->inside[u]) {
            for (i64 k = higher(0, half - q); k < size; k++) found[k] = least(found[k], e);
        } else if (out) {
            for (i64 k = 0; k < lower(size, size + q); k++) found[k] = least(found[k], e + best[higher(0, k - q)]);
        } else {
            for (i64 k = higher(0, -q); k < size; k++) found[k] = least(found[k], e + best[lower(size - 1, k + q)]);
        }
        if (spare >= (double)reach) break;
    }
    for (i64 k = 0; k < size; k++) cost[k] += found[k];
}

/* Where child `v` goes when its parent's shift is known. */
static i64 follow(const Forest *f, i64 v) {
    i64 a = f->parent[v], half = f->half, size = f->size, reach = 2 * half, at = half;
    bool out = f->tail[a] == v;
    i64 above = f->shift[other(f, a, v)];
    double gap = f->tau[f->head[a]] - f->tau[f->tail[a]], least_cost = INFINITY;
    const double *best = f->best + v * size, *cost = f->cost + v * size;
    for (i64 o = f->first[f->kind[a] + 1] - 1; o >= f->first[f->kind[a]]; o--) {
        double spare = floor((gap - f->time[o]) / f->step + 1e-8);
        if (spare < (double)-reach) continue;
        i64 q = spare >= (double)reach ? reach : (i64)spare, k = out ? above + q : above - q;
        if ((out && k < 0) || (!out && k >= size)) continue;
        k = higher(0, lower(size - 1, k));
        double c = f->energy[o] * f->weight[a] + best[k];
        if (c < least_cost) {
            least_cost = c;
            at = k;
        }
        if (spare >= (double)reach) break;
    }
    if (out)
        while (at > 0 && cost[at] != best[at]) at--;
    else
        while (at < size - 1 && cost[at] != best[at]) at++;
    return at;
}

/* Shift the `count` events of the forest to where they cost least together. */
static void shift(Forest *f, i64 count, double *found) {
    i64 half = f->half, size = f->size;
    for (i64 i = count - 1; i >= 0; i--) {
        i64 v = f->order[i];
        double *cost = f->cost + v * size, *best = f->best + v * size, low = INFINITY;
        for (i64 k = 0; k < size; k++) cost[k] = 0.0;
        for (i64 k = f->pointer[v]; k < f->pointer[v + 1]; k++)
            if (f->arc[k] != f->parent[v]) pass(f, v, f->arc[k], cost, found);
        if (f->parent[v] < 0) continue;
        if (f->tail[f->parent[v]] == v)
            for (i64 k = 0; k < size; k++) best[k] = low = least(low, cost[k]);
        else
            for (i64 k = size - 1; k >= 0; k--) best[k] = low = least(low, cost[k]);
    }
    for (i64 i = 0; i < count; i++) {
        i64 v = f->order[i], at = half;
        const double *cost = f->cost + v * size;
        if (f->parent[v] >= 0) {
            at = follow(f, v);
        } else {
            for (i64 d = 1; d <= half; d++) {
                if (cost[half - d] < cost[at]) at = half - d;
                if (cost[half + d] < cost[at]) at = half + d;
            }
        }
        f->shift[v] = at;
    }
    for (i64 i = 0; i < count; i++) f->tau[f->order[i]] += (double)(f->shift[f->order[i]] - half) * f->step;
}

static double earliest(const Forest *f, const i64 *pick, double *early) {
    for (i64 v = 0; v < f->n; v++) {
        early[v] = 0.0;
        for (i64 k = f->pointer[v]; k < f->pointer[v + 1]; k++) {
            i64 a = f->arc[k];
            if (f->head[a] == v) early[v] = most(early[v], early[f->tail[a]] + f->time[pick[a]]);
        }
    }
    return early[f->n - 1];
}

static void latest(const Forest *f, const i64 *pick, double deadline, double *late) {
    for (i64 v = f->n - 1; v >= 0; v--) {
        late[v] = deadline;
        for (i64 k = f->pointer[v]; k < f->pointer[v + 1]; k++) {
            i64 a = f->arc[k];
            if (f->tail[a] == v) late[v] = least(late[v], late[f->head[a]] - f->time[pick[a]]);
        }
    }
}

/* The slowest option that fits between an arc's events, for each; returns their energy. */
static double fitted(const Forest *f, const i64 *pick, i64 *trial, double near) {
    double spent = 0.0;
    for (i64 a = 0; a < f->arcs; a++) {
        double room = f->tau[f->head[a]] - f->tau[f->tail[a]] + near;
        i64 o = pick[a];
        while (o > f->first[f->kind[a]] && f->time[o] > room) o--;
        while (o + 1 < f->first[f->kind[a] + 1] && f->time[o + 1] <= room) o++;
        trial[a] = o;
        spent += f->energy[o];
    }
    return spent;
}

KERNEL void forest_sway(const i64 *tail, i64 tail_n, const i64 *head, const i64 *kind, const i64 *pointer,
                        i64 pointer_n, const i64 *arc, const i64 *first, const double *time, const double *energy,
                        double deadline, const double *steps, i64 steps_n, i64 half, i64 cycle, i64 rounds,
                        double heat, Random *random, i64 *pick) {
    i64 n = pointer_n - 1, arcs = tail_n, size = 2 * half + 1;
    Forest f = {n, arcs, half, size, tail, head, kind, pointer, arc, first, time, energy, 0.0,
                NEW(double, n), NEW(double, arcs), NEW(double, n * size), NEW(double, n * size),
                NEW(i64, n), NEW(i64, n), NEW(i64, n), NEW(i64, n), NEW(i64, n), NEW(i8, n), NEW(i8, n)};
    double *early = NEW(double, n), *late = NEW(double, n), *found = NEW(double, size);
    i64 *mixed = NEW(i64, n), *now = NEW(i64, arcs), *held = NEW(i64, arcs), *trial = NEW(i64, arcs);
    size_t bytes = (size_t)arcs * sizeof(i64);
    double spent = 0.0, kept, lowest, near = 1e-13 * deadline;
    i64 from = 1, to = 1;
    memcpy(now, pick, bytes);
    memcpy(held, pick, bytes);
    for (i64 a = 0; a < arcs; a++) spent += energy[pick[a]];
    kept = lowest = spent;
    for (i64 round = 0; round < rounds; round++) {
        double noise = 0.0;
        if (round % cycle == 0) {
            double worse = heat * (1.0 - (double)round / (double)rounds) * draw(random);
            if (spent > kept + worse) {
                spent = kept;
                memcpy(now, held, bytes);
            }
            kept = spent;
            memcpy(held, now, bytes);
            i64 width = 12 + (i64)(draw(random) * draw(random) * (double)lower(n, 128));
            from = (i64)(draw(random) * (double)(n + width)) - width;
            to = lower(n - 1, from + width);
            from = lower(higher(1, from), to);
            noise = draw(random);
        }
        for (i64 a = 0; a < arcs; a++) f.weight[a] = noise > 0.0 ? 1.0 + noise * (draw(random) - 0.5) : 1.0;
        f.step = steps[(i64)(draw(random) * (double)steps_n)];
        double lean = least(1.0, most(0.0, 2.0 * draw(random) - 0.5));
        earliest(&f, now, early);
        latest(&f, now, deadline, late);
        for (i64 v = 0; v < n; v++) f.tau[v] = early[v] + lean * (late[v] - early[v]);
        shift(&f, grow(&f, from, to, random, mixed), found);
        double change = fitted(&f, now, trial, near);
        if ((change <= spent || noise > 0.0) && earliest(&f, trial, early) <= deadline) {
            spent = change;
            memcpy(now, trial, bytes);
            if (spent < lowest) {
                lowest = spent;
                memcpy(pick, trial, bytes);
            }
        }
    }
    free(f.tau), free(f.weight), free(f.cost), free(f.best), free(f.root), free(f.order), free(f.parent);
    free(f.shift), free(f.stack), free(f.inside), free(f.seen), free(early), free(late), free(found);
    free(mixed), free(now), free(held), free(trial);
}
