/* Seconds and joules of one step at a clock level, from the tables of serving/simulate/table.py.

   The same as serving/simulate/_price.py, operation by operation: both give the same bits. */
#ifndef WATTLINE_SERVING_PRICE_H
#define WATTLINE_SERVING_PRICE_H



#include "serving_state.h"

/* Return the interval that holds x, the first or last one beyond the ends. */
static i64 interval(const double *nodes, i64 count, double x) {
    i64 low = 0, high = count - 1;
    while (high - low > 1) {
        i64 middle = (low + high) / 2;
        if (nodes[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Return the row of layers and the part of the way to the next, as `table.tokens_at` does. */
static i64 layers_at(const Prices *p, double tokens, double *part) {
    if (tokens < (double)p->each) {
        i64 i = (i64)tokens;
        *part = tokens - (double)i;
        return i;
    }
    if (tokens < (double)p->fine) {
        i64 tile = (i64)ceil(tokens / (double)p->tile) - 1;
        *part = (tokens - (double)(tile * p->tile) - 1.0) / ((double)p->tile - 1.0);
        return p->each + 1 + 2 * (tile - p->each / p->tile);
    }
    double blocks = tokens / (double)p->coarse;
    i64 block = (i64)blocks;
    i64 last = p->each + 2 * (p->fine - p->each) / p->tile;
    *part = blocks - (double)block;
    return last + block - p->fine / p->coarse;
}

/* Write the four corners around (x, y) of a grid. */
static void plane(
    const Prices *p, i64 pool, i64 piece, i64 one, i64 two, double x, double y, int at, Corners *out
) {
    i64 f = AT3(p->axis, pool, one, 0), n = AT3(p->axis, pool, one, 1);
    i64 g = AT3(p->axis, pool, two, 0), m = AT3(p->axis, pool, two, 1);
    const double *xs = p->nodes + f, *ys = p->nodes + g;
    i64 i = interval(xs, n, x), j = interval(ys, m, y);
    double u = (x - xs[i]) / (xs[i + 1] - xs[i]);
    double v = (y - ys[j]) / (ys[j + 1] - ys[j]);
    i64 base = AT2(p->start, pool, piece) + i * m + j;
    out->row[at] = base;
    out->row[at + 1] = base + 1;
    out->row[at + 2] = base + m;
    out->row[at + 3] = base + m + 1;
    out->weight[at] = (1.0 - u) * (1.0 - v);
    out->weight[at + 1] = (1.0 - u) * v;
    out->weight[at + 2] = u * (1.0 - v);
    out->weight[at + 3] = u * v;
}

/* Write the rows and weights whose sum is the step; return how many.

   Layers 0-1, head 2-3, decode attention 4-7, prefill attention 8-11.
   `late`: factor on prompt tokens, over 1 for the group that others wait for. */
static int corners(
    const Prices *p, i64 pool, double batch, double context, double prompt, double reach, double prompts,
    double late, Corners *out
) {
    double verified = AT2(p->scalar, pool, 5), part;
    i64 i = layers_at(p, batch * verified + late * prompt, &part);
    out->row[0] = AT2(p->start, pool, 0) + i;
    out->row[1] = AT2(p->start, pool, 0) + i + 1;
    out->weight[0] = 1.0 - part;
    out->weight[1] = part;
    double x = batch * verified + prompts;
    i = lower((i64)x, AT2(p->start, pool, 2) - AT2(p->start, pool, 1) - 2);
    out->row[2] = AT2(p->start, pool, 1) + i;
    out->row[3] = AT2(p->start, pool, 1) + i + 1;
    out->weight[2] = 1.0 - (x - (double)i);
    out->weight[3] = x - (double)i;
    plane(p, pool, 2, 0, 1, batch, context, 4, out);
    if (prompt <= 0.0)
        return 8;
    plane(p, pool, 3, 2, 3, late * prompt, reach, 8, out);
    return 12;
}

/* Return the weighted sum of one column of some corners. */
static double summed(const Prices *p, const Corners *some, int first, int last, i64 level, i64 column) {
    double total = 0.0;
    for (int k = first; k < last; k++)
        total += some->weight[k] * AT3(p->cells, some->row[k], level, column);
    return total;
}

/* Return the longer of two overlapped times as `engine.longer` does; their sum where they take turns. */
static double overlap(double busy, double host, double exponent) {
    if (exponent <= 0.0)
        return busy + host;
    double top = most(busy, host);
    return top * pow(pow(busy / top, exponent) + pow(host / top, exponent), 1.0 / exponent);
}

/* A step before its level is chosen: its corners, those of the group that others wait for, host time, pool. */
typedef struct {
    Corners step, late;
    int corners;
    double host;
    i64 pool;
} Priced;

/* Return seconds and write moved joules of a step at one level, power limit aside. */
static double at_level(const Prices *p, const Priced *s, i64 level, double *joules) {
    double busy = summed(p, &s->late, 0, s->corners, level, 0);
    *joules = summed(p, &s->step, 0, s->corners, level, 1);
    return overlap(busy, s->host, AT2(p->scalar, s->pool, 0));
}

/* Return the highest level up to `asked` at which power keeps the limit, as `table._within` does. */
static double limited(const Prices *p, const Priced *s, double asked) {
    double limit = AT2(p->scalar, s->pool, 2), waiting = AT2(p->scalar, s->pool, 1), above = 0.0;
    for (i64 high = lower((i64)ceil(asked), p->cells_m - 1); high >= 0; high--) {
        double joules, time = at_level(p, s, high, &joules);
        double power = joules / time + waiting;
        if (high == 0 || power <= limit) {
            if (above == 0.0)
                return asked;
            double part = above > power ? (limit - power) / (above - power) : 0.0;
            return least(asked, (double)high + least(most(part, 0.0), 1.0));
        }
        above = power;
    }
    return 0.0;
}

#endif
