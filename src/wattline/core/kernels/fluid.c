/* Requests as a fluid through replicas, bin by bin. Says what serving/_fluid.py says. */
#include "kernels.h"

enum { DRAIN = 8, MORE = 1000 };
static const double NONE = 0.5, STUCK = 1e6;

/* A curve (rows, levels) at a fractional number of requests. */
static double at(const double *values, i64 rows, i64 levels, double n, i64 level) {
    i64 low = lower((i64)n, rows - 2);
    double a = values[low * levels + level], b = values[(low + 1) * levels + level];
    return a + (n - (double)low) * (b - a);
}

/* Requests left, and in `mean` their mean, of `n` that are joined evenly by `x` and leave at a rate of `h` a bin. */
static double moved(double n, double x, double h, double *mean) {
    double keep = exp(-h);
    double gain = h > 1e-9 ? (1.0 - keep) / h : 1.0;
    double left = n * keep + x * gain;
    *mean = h > 1e-9 ? (n + x - left) / h : (n + left) / 2.0;
    return left;
}

KERNEL void fluid_walk(const double *arrive, i64 arrive_n, const double *work, double dt, double output,
                       const double *replicas, i64 replicas_n, const double *batch, const i64 *levels,
                       const double *step, i64 step_n, i64 step_m, const double *fill, i64 fill_n, i64 fill_m,
                       const double *step_j, i64 step_j_n, i64 step_j_m, const double *fill_j, i64 fill_j_n,
                       i64 fill_j_m, double waiting, double room, bool reads, bool decodes, double *energy,
                       double *duration, float *running, i64 running_m, float *entering, float *pace, float *queued) {
    i64 bins = arrive_n;
    for (i64 c = 0; c < replicas_n; c++) {
        double r = replicas[c], cap = batch[c];
        i64 level = levels[c];
        double n = 0.0, queue = 0.0, prompts = 0.0, total = 0.0; /* of one replica */
        i64 k = 0;
        while (k < bins || ((n + queue) * r > NONE && k < (1 + DRAIN) * bins + MORE)) {
            if (k < bins) {
                queue += arrive[k] / r;
                prompts += work[k] / r;
            }
            double share = queue > 1e-12 ? prompts / queue : 1.0;
            double middle = n, left = 0.0, x = queue, steps = 0.0, seconds = 0.0, made;
            if (decodes) {
                for (int turn = 0; turn < 2; turn++) {
                    seconds = at(step, step_n, step_m, most(middle, 1.0), level);
                    double each = at(fill, fill_n, fill_m, most(middle, 1.0), level) * share +
                                  most(0.0, 1.0 - middle) * seconds;
                    x = reads ? least(queue, dt / (seconds * share / room + each)) : queue;
                    each = reads ? each : 0.0;
                    steps = most(dt - x * each, 0.0) / seconds;
                    left = moved(n, x, steps / output, &middle);
                    if (left > cap) {
                        double stay = n * exp(-steps / output);
                        x = least(x, most((cap - stay) / most(left - stay, 1e-12) * x, 0.0));
                        steps = most(dt - x * each, 0.0) / seconds;
                        left = moved(n, x, steps / output, &middle);
                    }
                    middle = least(middle, cap);
                }
                double some = least(middle, 1.0);
                seconds = at(step, step_n, step_m, most(middle, 1.0), level);
                made = steps * some + (reads ? x * most(0.0, 1.0 - middle) : 0.0);
            } else {
                middle = 0.0;
                seconds = step[step_m + level];
                double each = fill[fill_m + level] * share;
                x = least(queue, dt / (each + seconds * share / room));
                made = least(x, most(dt - x * each, 0.0) / seconds);
            }
            double here = most(middle, 1.0);
            double reading = at(fill, fill_n, fill_m, here, level) * share;
            total += made * at(step_j, step_j_n, step_j_m, here, level) +
                     x * at(fill_j, fill_j_n, fill_j_m, here, level) * share;
            total += waiting * most(dt - made * seconds - x * reading, 0.0);
            queue = most(queue - x, 0.0);
            prompts = queue * share;
            if (k < bins) {
                i64 p = c * running_m + k;
                running[p] = (float)middle;
                entering[p] = (float)x;
                pace[p] = (float)(steps > 0.0 ? dt / steps : seconds);
                queued[p] = (float)queue;
            }
            n = left;
            k++;
        }
        energy[c] = (n + queue) * r > NONE ? INFINITY : total * r;
        duration[c] = (double)k * dt;
    }
}

KERNEL void fluid_waits(const float *queued, i64 queued_n, i64 queued_m, const float *entering, const i64 *bins,
                        i64 bins_n, double dt, double *out) {
    for (i64 c = 0; c < queued_n; c++) {
        const float *queue = queued + c * queued_m, *enter = entering + c * queued_m;
        double sum = 0.0;
        for (i64 k = 0; k < queued_m; k++) sum += enter[k];
        double mean = most(sum / (double)queued_m, 1e-12);
        for (i64 i = 0; i < bins_n; i++) {
            i64 k = bins[i] + 1;
            double left = queue[bins[i]], time = 0.0;
            while (left > 1e-6 && k < queued_m && left > enter[k]) {
                left -= enter[k];
                time += dt;
                k++;
            }
            if (left > 1e-6) time += least(left * dt / (k < queued_m ? (double)enter[k] : mean), STUCK);
            out[c * bins_n + i] = time;
        }
    }
}

KERNEL void fluid_lives(const float *pace, i64 pace_n, i64 pace_m, const float *entering, const i64 *bins, i64 bins_n,
                        const double *tokens, double dt, double *out, double *met) {
    i64 last = pace_m - 1;
    for (i64 c = 0; c < pace_n; c++) {
        const float *p = pace + c * pace_m, *enter = entering + c * pace_m;
        for (i64 i = 0; i < bins_n; i++) {
            i64 k = bins[i];
            double left = tokens[i], time = 0.0, prompts = 0.0;
            while (k < last && left > dt / (double)p[k]) {
                left -= dt / (double)p[k];
                time += dt;
                prompts += enter[k];
                k++;
            }
            time += left * (double)p[k];
            prompts += left * (double)p[k] / dt * (double)enter[k];
            out[c * bins_n + i] = time / tokens[i];
            met[c * bins_n + i] = prompts;
        }
    }
}

KERNEL void fluid_behind(const double *arrival, i64 arrival_n, const double *share, const double *fills, i64 fills_n,
                         i64 replicas, double *out) {
    double *left = NEW(double, replicas), *last = NEW(double, replicas);
    for (i64 g = 0; g < fills_n; g++) {
        for (i64 r = 0; r < replicas; r++) left[r] = last[r] = 0.0;
        for (i64 i = 0; i < arrival_n; i++) {
            i64 r = i % replicas;
            left[r] = most(left[r] - (arrival[i] - last[r]), 0.0);
            last[r] = arrival[i];
            out[i * fills_n + g] = left[r];
            left[r] += fills[g] * share[i];
        }
    }
    free(left);
    free(last);
}
