/* Envelopes of work against power, and filling a tree of limits. Says what site/_allocate.py says. */
#include "kernels.h"

KERNEL void allocate_envelope(const i64 *first, const double *rate, const double *energy, const double *waiting,
                              const i64 *kind, i64 kind_n, const double *minimum, const double *maximum,
                              const double *paused, bool discrete, const i64 *begin, double *power, double *work,
                              i64 *point, i64 *count, double *least) {
    for (i64 j = 0; j < kind_n; j++) {
        i64 k = kind[j], m = 0;
        double *P = power + begin[j], *W = work + begin[j];
        i64 *at = point + begin[j];
        if (paused[j] == paused[j] && !(discrete && minimum[j] > 0.0)) {
            P[0] = paused[j];
            W[0] = 0.0;
            at[0] = -1;
            m = 1;
        }
        for (i64 i = first[k + 1] - 1; i >= first[k]; i--) {
            if (discrete && rate[i] < minimum[j] * (1.0 - 1e-12)) continue;
            double r = maximum[j] < rate[i] ? maximum[j] : rate[i];
            double p = waiting[k] + energy[i] * r;
            if (m > 0 && r <= W[m - 1]) {
                if (r == W[m - 1] && p < P[m - 1])
                    m--;
                else
                    continue;
            }
            while (m > 0 && p <= P[m - 1]) m--;
            while (m > 1 && (W[m - 1] - W[m - 2]) * (p - P[m - 2]) <= (r - W[m - 2]) * (P[m - 1] - P[m - 2])) m--;
            P[m] = p;
            W[m] = r;
            at[m] = i - first[k];
            m++;
        }
        count[j] = m;
        least[j] = P[0];
        if (minimum[j] > W[0]) {
            i64 b = 1;
            while (b < m - 1 && W[b] < minimum[j]) b++;
            double share = (minimum[j] - W[b - 1]) / (W[b] - W[b - 1]);
            if (!(share < 1.0)) share = 1.0;
            least[j] = P[b - 1] + share * (P[b] - P[b - 1]);
        }
    }
}

KERNEL double allocate_fill(const i64 *job, const i64 *row, i64 row_n, const double *width, const double *slope,
                            const i64 *above, double *room, double *given, double target, double *tight) {
    double earned = 0.0, last = 0.0;
    for (i64 s = 0; s < row_n; s++) {
        if (earned >= target) break;
        double x = width[s];
        for (i64 r = row[s]; r >= 0 && x > 0.0; r = above[r]) x = least(x, room[r]);
        if (x <= 0.0) {
            for (i64 r = row[s]; r >= 0; r = above[r])
                if (room[r] <= 0.0 && tight[r] != tight[r]) tight[r] = slope[s];
            continue;
        }
        if (earned + x * slope[s] > target) {
            x = (target - earned) / slope[s];
            earned = target;
        } else {
            earned += x * slope[s];
        }
        given[job[s]] += x;
        last = slope[s];
        for (i64 r = row[s]; r >= 0; r = above[r]) {
            room[r] -= x;
            if (room[r] <= 0.0 && tight[r] != tight[r]) {
                tight[r] = slope[s];
                if (above[r] < 0) return last; /* the feed is full */
            }
        }
    }
    return last;
}

KERNEL double allocate_settle(const double *given, const double *gain, const double *weight, const i64 *row,
                              const double *paid, const i64 *begin, i64 begin_n, const i64 *count,
                              const double *vertex_power, const double *vertex_work, const double *least,
                              double *power, double *work, i64 *low, i64 *high, double *share) {
    double proved = 0.0;
    for (i64 j = 0; j < begin_n; j++) {
        i64 o = begin[j], m = count[j], k = 0;
        const double *P = vertex_power + o, *W = vertex_work + o;
        double p = least[j] + given[j] / gain[j];
        if (P[m - 1] < p) p = P[m - 1];
        while (k < m - 1 && P[k + 1] <= p) k++;
        low[j] = high[j] = o + k;
        share[j] = 0.0;
        if (k < m - 1 && p > P[k]) {
            high[j] = o + k + 1;
            share[j] = (p - P[k]) / (P[k + 1] - P[k]);
        }
        power[j] = p;
        work[j] = (1.0 - share[j]) * vertex_work[low[j]] + share[j] * vertex_work[high[j]];
        double cost = paid[row[j]] * gain[j];
        i64 first = 0;
        while (first < m - 1 && P[first + 1] <= least[j]) first++;
        double start = W[first];
        if (first < m - 1 && least[j] > P[first]) {
            double step = (W[first + 1] - start) / (P[first + 1] - P[first]);
            start += step * (least[j] - P[first]);
        }
        double best = 0.0;
        for (i64 i = first + 1; i < m; i++) best = most(best, weight[j] * (W[i] - start) - cost * (P[i] - least[j]));
        proved += best;
    }
    return proved;
}

KERNEL void allocate_pay(const double *tight, i64 tight_n, const i64 *above, double *price, double *paid) {
    for (i64 r = 0; r < tight_n; r++) {
        double dearest = 0.0;
        for (i64 a = above[r]; a >= 0; a = above[a])
            if (tight[a] > dearest) dearest = tight[a];
        price[r] = tight[r] == tight[r] ? most(0.0, tight[r] - dearest) : 0.0;
        paid[r] = dearest + price[r];
    }
}

KERNEL void allocate_round_down(const i64 *begin, i64 begin_n, const double *vertex_power, const double *vertex_work,
                                const i64 *vertex_point, const i64 *low, const double *gain, const i64 *row,
                                const i64 *above, double *room, double *power, double *work, i64 *point, i64 *taken) {
    for (i64 j = 0; j < begin_n; j++) {
        double back = (power[j] - vertex_power[low[j]]) * gain[j];
        power[j] = vertex_power[low[j]];
        work[j] = vertex_work[low[j]];
        point[j] = vertex_point[low[j]];
        taken[j] = low[j] - begin[j];
        if (back > 0.0)
            for (i64 r = row[j]; r >= 0; r = above[r]) room[r] += back;
    }
}

KERNEL void allocate_may_move(const i64 *jobs, i64 jobs_n, const i64 *first, const double *rate, const double *energy,
                              const double *waiting, const i64 *kind, const double *maximum, const double *gain,
                              const i64 *row, const i64 *above, const double *room, const double *power,
                              const double *work, double *worth) {
    for (i64 n = 0; n < jobs_n; n++) {
        i64 j = jobs[n], k = kind[j];
        double free_here = INFINITY;
        for (i64 r = row[j]; r >= 0 && free_here > 0.0; r = above[r]) free_here = least(free_here, room[r]);
        worth[n] = 0.0;
        if (free_here <= 0.0) continue;
        for (i64 i = first[k + 1] - 1; i >= first[k]; i--) {
            double fresh = least(rate[i], maximum[j]);
            if (fresh > work[j]) {
                double step = (waiting[k] + energy[i] * fresh - power[j]) * gain[j];
                if (step <= free_here) worth[n] = most(worth[n], (fresh - work[j]) / most(step, 1e-300));
            }
        }
    }
}

KERNEL double allocate_dot(const double *a, i64 a_n, const double *b) {
    double total = 0.0;
    for (i64 i = 0; i < a_n; i++) total += a[i] * b[i];
    return total;
}

KERNEL double allocate_top_up(const i64 *order, i64 order_n, const i64 *first, const double *rate,
                              const double *energy, const double *waiting, const i64 *kind, const double *maximum,
                              const double *gain, const double *weight, const i64 *row, const i64 *above,
                              double *room, double *power, double *work, i64 *point, double wanted) {
    double earned = 0.0;
    for (i64 n = 0; n < order_n; n++) {
        if (earned >= wanted) break;
        i64 j = order[n], k = kind[j], best = -1;
        double free_here = INFINITY, dearest = 0.0;
        for (i64 r = row[j]; r >= 0; r = above[r]) free_here = least(free_here, room[r]);
        for (i64 i = first[k + 1] - 1; i >= first[k]; i--) {
            double fresh = least(rate[i], maximum[j]);
            if (fresh > work[j]) {
                double step = (waiting[k] + energy[i] * fresh - power[j]) * gain[j];
                double each = (fresh - work[j]) / most(step, 1e-300);
                if (step <= free_here && each > dearest) {
                    best = i;
                    dearest = each;
                }
            }
        }
        if (best < 0) continue;
        double fresh = least(rate[best], maximum[j]);
        double p = waiting[k] + energy[best] * fresh;
        for (i64 r = row[j]; r >= 0; r = above[r]) room[r] -= (p - power[j]) * gain[j];
        earned += weight[j] * (fresh - work[j]);
        power[j] = p;
        work[j] = fresh;
        point[j] = best - first[k];
    }
    return earned;
}

KERNEL double allocate_step_back(const i64 *job, i64 job_n, const i64 *begin, const double *vertex_power,
                                 const double *vertex_work, const i64 *vertex_point, const double *weight,
                                 const double *gain, const i64 *row, const i64 *above, double *room, i64 *taken,
                                 double *power, double *work, i64 *point, double surplus) {
    for (i64 s = job_n - 1; s >= 0; s--) {
        i64 j = job[s];
        if (taken[j] == 0) continue;
        i64 v = begin[j] + taken[j] - 1;
        double lost = weight[j] * (work[j] - vertex_work[v]);
        if (lost > surplus || lost <= 0.0) continue;
        double back = (power[j] - vertex_power[v]) * gain[j];
        for (i64 r = row[j]; r >= 0; r = above[r]) room[r] += back;
        surplus -= lost;
        taken[j]--;
        power[j] = vertex_power[v];
        work[j] = vertex_work[v];
        point[j] = vertex_point[v];
    }
    return surplus;
}
