/* Answers of many jobs to prices over time, and their work put where there is room. Says what site/_decompose.py says. */
#include "kernels.h"

/* Share of a piece taken where its price is `x` smoothing widths below what its work is worth, plus a half. */
static inline double part(double x) { return least(most(x, 0.0), 1.0); }

/* Work a second times s, and its growth with the worth of work, of one job over its periods. */
static double done_at(double worth, const double *width, const double *slope, i64 pieces, const double *price,
                      const double *dt, i64 first, i64 last, double smooth, double *growth) {
    double work = 0.0, grown = 0.0;
    for (i64 k = 0; k < pieces; k++) {
        double sum = 0.0, bend = 0.0, at = worth * slope[k];
        for (i64 t = first; t < last; t++) {
            double x = 0.5 + (at - price[t]) / smooth;
            sum += part(x) * dt[t];
            bend += (x > 0.0 && x < 1.0) ? dt[t] : 0.0;
        }
        work += slope[k] * width[k] * sum;
        grown += slope[k] * slope[k] * width[k] * bend / smooth;
    }
    *growth = grown;
    return work;
}

KERNEL void decompose_respond(const i64 *begin, const double *width, const double *slope, const i64 *place,
                              const i64 *first, const i64 *last, const double *due, double *worth, const double *price,
                              i64 price_m, const double *dt, double smooth, i64 start, i64 stop, double *load,
                              double *bend, double *value, double *bound, double *given, i64 given_n) {
    for (i64 j = start; j < stop; j++) {
        const double *w = width + begin[j], *s = slope + begin[j], *p = price + place[j] * price_m;
        double *l = load + place[j] * price_m, *b = bend + place[j] * price_m;
        i64 pieces = begin[j + 1] - begin[j], a = first[j], z = last[j];
        double mu = worth[j], growth = 0.0;
        bool owing = due[j] == due[j];
        if (owing) {
            double low = -INFINITY, high = INFINITY;
            for (int turn = 0; turn < 60; turn++) {
                double miss = done_at(mu, w, s, pieces, p, dt, a, z, smooth, &growth) - due[j];
                if (fabs(miss) <= 1e-12 * due[j]) break;
                if (miss > 0.0)
                    high = mu;
                else
                    low = mu;
                double next = growth > 0.0 ? mu - miss / growth : (miss > 0.0 ? mu - smooth / s[0] : mu + smooth / s[0]);
                if (!(next > low && next < high)) {
                    if (low > -INFINITY && high < INFINITY)
                        next = 0.5 * (low + high);
                    else if (miss > 0.0)
                        next = mu - 2.0 * fabs(mu) - smooth / s[0];
                    else
                        next = mu + 2.0 * fabs(mu) + smooth / s[0];
                }
                if (next == mu || fabs(next) > 1e9) break;
                mu = next;
            }
            worth[j] = mu;
        }
        double soft = owing ? mu * due[j] : 0.0, hard = soft;
        for (i64 k = 0; k < pieces; k++) {
            double at = mu * s[k];
            for (i64 t = a; t < z; t++) {
                double less = p[t] - at, u = part(0.5 - less / smooth), joules = dt[t] * w[k];
                if (u > 0.0) {
                    soft += joules * (less * u + 0.5 * smooth * (u * u - u));
                    l[t] += u * w[k];
                    if (u < 1.0) b[t] += w[k] / smooth;
                    if (given_n > 0) given[j * price_m + t] += u * w[k];
                }
                if (less < 0.0) hard += joules * less;
            }
        }
        value[j] = soft;
        bound[j] = hard;
    }
}

/* Most watts of one job in a period that every limit above it has room for. */
static inline double fits(const i64 *row, const double *per, const double *scale, i64 scale_m, const double *room,
                          i64 from, i64 to, i64 t) {
    double x = INFINITY;
    for (i64 e = from; e < to; e++) {
        double each = per[e] * scale[row[e] * scale_m + t];
        if (each > 0.0) x = least(x, most(room[row[e] * scale_m + t], 0.0) / each);
    }
    return x;
}

static inline void take(const i64 *row, const double *per, const double *scale, i64 scale_m, double *room, i64 from,
                        i64 to, i64 t, double watts) {
    for (i64 e = from; e < to; e++) room[row[e] * scale_m + t] -= watts * per[e] * scale[row[e] * scale_m + t];
}

typedef struct {
    double ratio;
    i64 at;
} Offer;

static int dearer(const void *a, const void *b) {
    const Offer *x = a, *y = b;
    if (x->ratio != y->ratio) return x->ratio < y->ratio ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

KERNEL void decompose_settle(const i64 *begin, const double *width, const double *slope, const i64 *place,
                             const i64 *first, const i64 *last, const double *due, const double *price, i64 price_m,
                             const double *dt, const i64 *above, const i64 *row, const double *per, const double *scale,
                             double *room, const i64 *order, i64 order_n, double *given, double *gained,
                             double *short_) {
    i64 most_pieces = 1;
    for (i64 i = 0; i < order_n; i++) most_pieces = higher(most_pieces, begin[i + 1] - begin[i]);
    Offer *offer = NEW(Offer, most_pieces *price_m);
    for (i64 i = 0; i < order_n; i++) {
        i64 j = order[i], o = begin[j], pieces = begin[j + 1] - o, from = above[place[j]], to = above[place[j] + 1];
        const double *p = price + place[j] * price_m;
        double *g = given + j * price_m, *r = gained + j * price_m, done = 0.0;
        for (i64 t = first[j]; t < last[j]; t++) {
            double x = g[t], left, rate = 0.0;
            if (x > 0.0) {
                x = least(x, fits(row, per, scale, price_m, room, from, to, t));
                take(row, per, scale, price_m, room, from, to, t, x);
            }
            g[t] = left = x;
            for (i64 k = 0; k < pieces && left > 0.0; k++) {
                double some = least(left, width[o + k]);
                rate += some * slope[o + k];
                left -= some;
            }
            r[t] = rate;
            done += rate * dt[t];
        }
        short_[j] = 0.0;
        if (due[j] != due[j]) continue;
        double lack = due[j] - done;
        if (lack > 1e-9 * due[j]) {
            i64 count = 0;
            for (i64 t = first[j]; t < last[j]; t++)
                for (i64 k = 0; k < pieces; k++)
                    if (p[t] < INFINITY) offer[count++] = (Offer){p[t] / slope[o + k], t * most_pieces + k};
            qsort(offer, (size_t)count, sizeof(Offer), dearer);
            for (i64 n = 0; n < count && lack > 0.0; n++) {
                i64 t = offer[n].at / most_pieces, k = offer[n].at % most_pieces;
                double below = 0.0;
                for (i64 i2 = 0; i2 < k; i2++) below += width[o + i2];
                /* Pieces come in order: of this one there is what lies above both it and what is taken. */
                double x = below + width[o + k] - most(g[t], below);
                if (x <= 0.0 || g[t] < below * (1.0 - 1e-12)) continue;
                x = least(x, lack / (slope[o + k] * dt[t]));
                x = least(x, fits(row, per, scale, price_m, room, from, to, t));
                if (x <= 0.0) continue;
                take(row, per, scale, price_m, room, from, to, t, x);
                g[t] += x;
                r[t] += x * slope[o + k];
                lack -= x * slope[o + k] * dt[t];
            }
            short_[j] = most(lack, 0.0);
        } else if (lack < 0.0) {
            /* More than is due: the dearest is given back, last pieces first. */
            double over = -lack;
            while (over > 1e-9 * due[j]) {
                double worst = -INFINITY;
                i64 at = -1, piece = 0;
                for (i64 t = first[j]; t < last[j]; t++) {
                    if (g[t] <= 0.0) continue;
                    double below = 0.0;
                    i64 k = 0;
                    while (k < pieces - 1 && below + width[o + k] < g[t]) below += width[o + k++];
                    if (p[t] / slope[o + k] > worst) {
                        worst = p[t] / slope[o + k];
                        at = t;
                        piece = k;
                    }
                }
                if (at < 0) break;
                double below = 0.0;
                for (i64 k = 0; k < piece; k++) below += width[o + k];
                double x = least(g[at] - below, over / (slope[o + piece] * dt[at]));
                if (x <= 0.0) break;
                take(row, per, scale, price_m, room, from, to, at, -x);
                g[at] -= x;
                r[at] -= x * slope[o + piece];
                over -= x * slope[o + piece] * dt[at];
            }
        }
    }
    free(offer);
}
