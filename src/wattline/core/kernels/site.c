/* Core of the site simulator: failures, tasks, caps, heat, the flow through every part, breakers.

   The same as site/simulate/_site.py, operation by operation, so that both give the same bits; what a step is, and what
   the tuples hold, is said there. Nothing here takes memory or calls Python. */


#include "site_state.h"

/* Numbers for phases are drawn by step, those for failures by how many there were; the two do not meet. */
#define PHASES (INT64_C(1) << 40)
#define PI 3.141592653589793

/* Return a number in (0, 1): splitmix64 of seed, who and turn. */
KERNEL double site_chance(i64 seed, i64 who, i64 turn) {
    const u64 a = UINT64_C(0x9E3779B97F4A7C15), b = UINT64_C(0xBF58476D1CE4E5B9), c = UINT64_C(0x94D049BB133111EB);
    u64 x = ((u64)seed + 1) * a + (u64)who * b + (u64)turn * c;
    for (int n = 0; n < 2; n++) {
        x = (x ^ (x >> 30)) * b;
        x = (x ^ (x >> 27)) * c;
        x = (x ^ (x >> 31)) + a;
    }
    return ((double)(x >> 11) + 0.5) * 0x1p-53;
}

/* Return an exponential number of steps for node i. */
static double span(const Plant *p, const Live *s, i64 i, double mean) {
    if (mean == INFINITY)
        return INFINITY;
    s->draws[i] += 1;
    return -mean * log(site_chance(p->seed, i, s->draws[i]));
}

/* Return y at x on the line through rows `low` to `high`, level beyond its ends. */
static double between(const double *xs, const double *ys, i64 low, i64 high, double x) {
    if (x >= xs[high])
        return ys[high];
    if (x <= xs[low])
        return ys[low];
    while (xs[low + 1] <= x)
        low += 1;
    return ys[low] + (x - xs[low]) / (xs[low + 1] - xs[low]) * (ys[low + 1] - ys[low]);
}

/* Return the share of full speed that a group's curve gives at `watts`. */
static double speed_at(const Plant *p, i64 g, double watts) {
    return between(p->power, p->work, p->curve[g], p->curve[g + 1] - 1, watts);
}

/* Return the watts of the curve at a speed. */
static double power_at(const Plant *p, i64 g, double speed) {
    return between(p->work, p->power, p->curve[g], p->curve[g + 1] - 1, speed);
}

/* Return whether a group's nodes wait for tasks; the others are always at work. */
static int tasked(const Plant *p, i64 g) { return p->tasks[g + 1] > p->tasks[g]; }

/* ---- what happens to nodes --------------------------------------------------------------------- */

/* List a node among those without a task. */
static void idle_again(const Plant *p, const Live *s, i64 i) {
    i64 g = p->group[i];
    if (tasked(p, g) && s->listed[i] == 0) {
        s->free[p->first[g] + s->free_count[g]] = i;
        s->free_count[g] += 1;
        s->listed[i] = 1;
    }
}

/* Take a node down until `back`; its task goes to the front of the queue and loses some of its work. */
static void go_down(const Plant *p, const Live *s, i64 i, i64 state, double back) {
    i64 g = p->group[i], t = s->task[i];
    s->state[i] = state;
    s->back[i] = most(back, s->back[i]);
    if (t >= 0) {
        s->task[i] = -1;
        s->left[t] = least(p->size[t], s->left[t] + p->rework);
        s->again[p->first[g] + s->again_count[g]] = t;
        s->again_count[g] += 1;
    }
}

/* Return whether a part and all above it are switched on. */
static int lit(const Plant *p, const Live *s, i64 part) {
    for (; part >= 0; part = p->parent[part])
        if (s->off[part] > 0.0)
            return 0;
    return 1;
}

/* Let a node that is up slow down or recover where it is time. */
static void turn(const Plant *p, const Live *s, const Tally *out, i64 i, double now) {
    if (now < s->turn[i])
        return;
    if (s->pace[i] < 1.0) {
        s->pace[i] = 1.0;
        s->turn[i] = now + span(p, s, i, p->slowing);
    } else {
        out->events[1] += 1;
        s->pace[i] = p->pace;
        s->turn[i] = now + span(p, s, i, p->slowed);
    }
}

/* Let nodes fail, return, slow down and recover; 1 where one failed or returned. */
static int happen(const Plant *p, const Live *s, const Tally *out, i64 k) {
    int event = 0;
    double now = (double)k;
    for (i64 part = 0; part < p->parent_n; part++)
        if (s->off[part] > 0.0 && now >= s->off[part]) {
            s->off[part] = 0.0;
            s->heat[part] = 0.0;
            out->events[3] += 1;
            event = 1;
        }
    for (i64 i = 0; i < p->place_n; i++) {
        if (s->state[i] != UP) {
            if (now >= s->back[i] && lit(p, s, p->place[i])) {
                s->state[i] = UP;
                s->back[i] = 0.0;
                s->fail[i] = now + span(p, s, i, p->failing);
                idle_again(p, s, i);
                event = 1;
            }
        } else if (now >= s->fail[i]) {
            out->events[0] += 1;
            s->fail[i] = INFINITY;
            double lasts = p->gang[i] >= 0 ? p->restart : span(p, s, i, p->repair);
            go_down(p, s, i, FAILED, now + lasts);
            event = 1;
        } else {
            turn(p, s, out, i, now);
        }
    }
    return event;
}

/* Give waiting tasks to nodes without one: first those to be done again, then in order of arrival. */
static void hand_out(const Plant *p, const Live *s, const Tally *out, i64 k) {
    for (i64 g = 0; g < p->idle_n; g++) {
        i64 end = p->tasks[g + 1], first = p->first[g];
        i64 *head = &s->head[g], *again = &s->again_count[g];
        while (s->free_count[g] > 0 && (*again > 0 || (*head < end && p->arrive[*head] <= k))) {
            i64 i = s->free[first + --s->free_count[g]];
            s->listed[i] = 0;
            if (s->state[i] != UP || s->task[i] >= 0)
                continue;
            if (*again > 0) {
                s->task[i] = s->again[first + --*again];
            } else {
                s->task[i] = *head;
                out->waited[0] += (double)(k - p->arrive[*head]) * p->dt;
                out->events[4] += 1;
                *head += 1;
            }
        }
    }
}

/* ---- power ------------------------------------------------------------------------------------- */

/* Return the phase after one step, given a number in (0, 1). */
static i64 shifted(const Plant *p, i64 g, i64 phase, double u) {
    return u < AT2(p->leave, g, phase) ? 1 - phase : phase;
}

/* Return the share of its power above idle that a node's phase takes. */
static double taken(const Plant *p, const Live *s, i64 i, i64 g) {
    return s->phase[i] == 1 ? p->quiet[g] : 1.0;
}

/* Find how fast each node may go under its cap and temperature, and the slowest of each gang. */
static void pace(const Plant *p, const Live *s, i64 k) {
    for (i64 g = 0; g < p->idle_n; g++) {
        double daily = 1.0 + p->swing[g] * sin(2.0 * PI * ((double)k * p->dt / 86400.0));
        s->asked[g] = least(1.0, most(0.0, p->load[g] * daily));
    }
    i64 n = p->place_n, before = -1;
    for (i64 j = 0; j < s->slowest_n; j++)
        s->slowest[j] = 1.0;
    double inlet = p->supply + p->room * s->removed[0];
    for (i64 i = 0; i < n; i++) {
        i64 g = p->group[i], j = p->gang[i];
        int moves = AT2(p->leave, g, 0) > 0.0;
        if (j >= 0 && j != before) { /* nodes of a gang follow one another */
            before = j;
            if (moves)
                s->beat[j] = shifted(p, g, s->beat[j], site_chance(p->seed, n + j, PHASES + k));
        }
        if (s->state[i] != UP) {
            s->allowed[i] = 0.0;
            if (j >= 0)
                s->slowest[j] = 0.0;
            continue;
        }
        if (j >= 0)
            s->phase[i] = s->beat[j];
        else if (moves)
            s->phase[i] = shifted(p, g, s->phase[i], site_chance(p->seed, i, PHASES + k));
        double watts = s->cap[i];
        if (s->temperature[i] > p->hottest)
            watts = least(watts, (p->hottest - inlet) / p->heat[g]);
        s->allowed[i] = speed_at(p, g, p->idle[g] + (watts - p->idle[g]) / taken(p, s, i, g));
        if (j >= 0)
            s->slowest[j] = least(s->slowest[j], s->allowed[i] * s->pace[i]);
    }
}

/* Return the watts of a node that does `doing` of the `can` it could: at its setting for that share of the time. */
static double drawn(const Plant *p, const Live *s, i64 i, i64 g, double want, double can, double doing) {
    double watts = p->idle[g];
    if (want <= 0.0)
        return watts;
    if (can <= 0.0)
        return p->power[p->curve[g]]; /* paused */
    return watts + taken(p, s, i, g) * (power_at(p, g, s->allowed[i]) - watts) * (doing / can);
}

/* Take a step's work off a node's task; a task that is done leaves. */
static void advance_task(const Plant *p, const Live *s, const Tally *out, i64 i, double doing, i64 k) {
    i64 t = s->task[i];
    s->left[t] -= doing * p->dt;
    if (s->left[t] <= 1e-9) {
        s->task[i] = -1;
        out->events[2] += 1;
        out->waited[1] += (double)(k + 1 - p->arrive[t]) * p->dt;
        idle_again(p, s, i);
    }
}

/* Let every node work and draw power; return work done in the step. */
static double work(const Plant *p, const Live *s, const Tally *out, i64 k) {
    for (i64 part = 0; part < p->parent_n; part++)
        s->load[part] = 0.0;
    double inlet = p->supply + p->room * s->removed[0], earned = 0.0;
    for (i64 i = 0; i < p->place_n; i++) {
        i64 g = p->group[i], j = p->gang[i];
        double want = !tasked(p, g) ? s->asked[g] : s->task[i] >= 0 ? 1.0 : 0.0;
        double value = p->weight[g] * p->dt, watts = 0.0;
        out->wanted[g] += value * want;
        if (s->state[i] != UP) {
            AT2(out->lost, g, s->state[i] == FAILED ? BROKEN : TRIPPED) += value * want;
        } else {
            double can = s->allowed[i] * s->pace[i], doing = least(want, can);
            if (j >= 0)
                doing = least(doing, s->slowest[j]);
            double under = least(want, s->allowed[i]);
            AT2(out->lost, g, CAPPED) += value * (want - under);
            AT2(out->lost, g, WAITING) += value * (under - doing);
            out->done[g] += value * doing;
            earned += value * doing;
            watts = drawn(p, s, i, g, want, can, doing);
            if (s->task[i] >= 0)
                advance_task(p, s, out, i, doing, k);
        }
        s->power[i] = watts;
        s->load[p->place[i]] += watts;
        out->joules[g] += watts * p->dt;
        s->temperature[i] += (inlet + p->heat[g] * watts - s->temperature[i]) * p->warmed;
    }
    return earned;
}

/* Sum power up the tree: what flows into a part is its loss times its standing, its load and what hangs on it. */
static void flow(const Plant *p, const Live *s) {
    for (i64 part = 0; part < p->parent_n; part++)
        s->below[part] = s->load[part] + p->standing[part];
    for (i64 k = 0; k < p->order_n; k++) {
        i64 part = p->order[k], above = p->parent[part];
        if (s->off[part] > 0.0)
            s->below[part] = 0.0;
        s->flow[part] = p->factor[part] * s->below[part];
        if (above >= 0)
            s->below[above] += s->flow[part];
    }
    i64 root = p->order[p->order_n - 1];
    s->removed[0] += (s->below[root] - s->removed[0]) * p->cooled;
    if (s->off[root] <= 0.0)
        s->flow[root] += p->share * s->removed[0] + p->fixed;
}

/* Open the breaker of a part: all that hangs on it goes dark. */
static void darken(const Plant *p, const Live *s, i64 part, i64 k) {
    s->off[part] = (double)(k + 1) + p->reclose;
    for (i64 i = 0; i < p->place_n; i++) {
        i64 q = p->place[i];
        while (q >= 0 && q != part)
            q = p->parent[q];
        if (q == part)
            go_down(p, s, i, DARK, s->off[part] + (p->gang[i] >= 0 ? p->restart : 0.0));
    }
}

/* Return what flows through a row of limits: a part, or a pool of parts. */
static double row_flow(const Plant *p, const Live *s, i64 row) {
    i64 parts = p->parent_n;
    if (row < parts)
        return s->flow[row];
    double x = 0.0;
    for (i64 m = p->pool[row - parts]; m < p->pool[row - parts + 1]; m++)
        x += s->flow[p->member[m]];
    return x;
}

/* Share of a breaker's way to tripping that a second at `m` times its rating takes: by its formula, or its table. */
static double heating(const Plant *p, double m) {
    if (p->knee_n == 0) return (pow(m, p->alpha) - 1.0) / p->k;
    double x = log(m);
    if (x < p->knee[0]) return 0.0;
    i64 i = 0;
    while (i + 1 < p->knee_n && p->knee[i + 1] <= x) i++;
    if (i + 1 == p->knee_n) return exp(2.0 * (x - p->knee[i]) - p->hold[i]);
    double part = (x - p->knee[i]) / (p->knee[i + 1] - p->knee[i]);
    return exp(-(p->hold[i] + part * (p->hold[i + 1] - p->hold[i])));
}

/* Count what is above a limit, and trip what has been above its rating for too long; 1 where one tripped. */
static int guard(const Plant *p, const Live *s, const Tally *out, const double *limit, i64 limit_n, i64 k) {
    int tripped = 0;
    for (i64 row = 0; row < limit_n; row++) {
        double x = row_flow(p, s, row), most_watts = limit[row];
        if (x > most_watts * (1.0 + 1e-9)) {
            AT2(out->over, row, 0) += p->dt;
            AT2(out->over, row, 1) += (x - most_watts) * p->dt;
        }
        if (most_watts > 0.0)
            AT2(out->over, row, 2) = most(AT2(out->over, row, 2), x / most_watts);
    }
    for (i64 part = 0; part < p->parent_n; part++) {
        if (p->rating[part] == INFINITY || s->off[part] > 0.0)
            continue;
        double m = s->flow[part] / p->rating[part];
        if (m > 1.0 + 1e-9) {
            s->heat[part] += p->dt * heating(p, m);
            if (s->heat[part] >= 1.0) {
                out->trips[part] += 1;
                darken(p, s, part, k);
                tripped = 1;
            }
        } else if (s->heat[part] > 0.0) {
            double below = least(m, 1.0);
            s->heat[part] = most(0.0, s->heat[part] - p->dt * (1.0 - below * below) / p->reset);
        }
    }
    return tripped;
}

/* Keep what is shown over time. */
static void note(const Plant *p, const Live *s, const Tally *out, const double *limit, double earned, i64 k) {
    i64 root = p->order[p->order_n - 1];
    double x = s->flow[root], *bin = &AT2(out->history, k / out->every, 0);
    out->feed[0] += x * p->dt;
    out->feed[1] = most(out->feed[1], x);
    bin[FEED] += x;
    bin[PEAK] = most(bin[PEAK], x);
    bin[LIMIT] = least(bin[LIMIT], limit[root]);
    bin[DONE] += earned;
    bin[COOLING] += p->share * s->removed[0] + p->fixed;
    for (i64 g = 0; g < p->idle_n; g++)
        if (!tasked(p, g))
            bin[WANTED] += s->asked[g] * p->weight[g] * p->dt * (double)(p->first[g + 1] - p->first[g]);
    if (k < out->flows_n)
        for (i64 part = 0; part < p->parent_n; part++) {
            AT2(out->flows, k, part) = s->flow[part];
            AT2(out->loads, k, part) = s->load[part];
        }
}

/* Run steps from `start` to before `end`; with `stops`, return right after a step in which something happened.

   Returns the next step, negative (-1 - step) where it stopped for an event. */
KERNEL i64 site_advance(
    const Plant *p, const Live *s, const Tally *out, const double *limit, i64 limit_n, i64 start, i64 end, bool stops
) {
    for (i64 k = start; k < end; k++) {
        int event = happen(p, s, out, k);
        hand_out(p, s, out, k);
        pace(p, s, k);
        double earned = work(p, s, out, k);
        flow(p, s);
        event = guard(p, s, out, limit, limit_n, k) || event;
        note(p, s, out, limit, earned, k);
        if (event && stops && k + 1 < end)
            return -1 - (k + 1);
    }
    return end;
}
