/* Core of the serving simulator: replicas that batch continuously, step by step.

   The same as serving/simulate/_core.py, operation by operation, so that both give the same bits; what a step is, and
   what the tuples hold, is said there. Nothing here takes memory or calls Python. */
#include "serving_state.h"
#include "serving_step.h"

/* ---- one step ---------------------------------------------------------------------------------- */

/* What a step does: requests that decode, tokens of prompts, prompts that end, sums of what they look back on. */
typedef struct {
    i64 decodes, prompt, prompts;
    double seen, reach;
} Doing;

/* Return a column of some corners at a level between two. */
static double between(const Prices *p, const Corners *some, int first, int last, i64 low, double part, i64 c) {
    double one = summed(p, some, first, last, low, c);
    if (part > 0.0)
        one += part * (summed(p, some, first, last, low + 1, c) - one);
    return one;
}

/* Write columns c to c + n - 1 of all corners at a level between two: each as `between` gives it, side by side. */
static void parts_between(
    const Prices *p, const Corners *some, int last, i64 low, double part, i64 c, i64 n, double *one
) {
    double two[SIDE];
    for (i64 i = 0; i < n; i++)
        one[i] = two[i] = 0.0;
    for (int k = 0; k < last; k++) {
        const double *cells = &AT3(p->cells, some->row[k], low, c), weight = some->weight[k];
        for (i64 i = 0; i < n; i++)
            one[i] += weight * cells[i];
    }
    if (part <= 0.0)
        return;
    for (int k = 0; k < last; k++) {
        const double *cells = &AT3(p->cells, some->row[k], low + 1, c), weight = some->weight[k];
        for (i64 i = 0; i < n; i++)
            two[i] += weight * cells[i];
    }
    for (i64 i = 0; i < n; i++)
        one[i] += part * (two[i] - one[i]);
}

/* Hand a step's joules to its requests: attention to whom it serves, all else evenly over the tokens. */
static void charge(
    const Prices *p, const Rules *rules, const Live *live, const Out *out, i64 r, double t, double time,
    i64 low, double part, const Priced *priced, const Doing *step
) {
    i64 pool = rules->pool[r], columns = p->cells_k;
    const Corners *some = &priced->step;
    double total = 0.0, one[SIDE];
    for (i64 c = 2; c < columns; c += SIDE) {
        i64 n = lower(SIDE, columns - c);
        parts_between(p, some, priced->corners, low, part, c, n, one);
        for (i64 i = 0; i < n; i++) {
            AT2(out->parts, pool, c - 2 + i) += one[i];
            total += one[i];
        }
    }
    double waiting = AT2(p->scalar, pool, 1) * time;
    AT2(out->parts, pool, columns - 2) += waiting;
    total += waiting;
    double keys = between(p, some, 4, 8, low, part, 1);
    double reads = step->prompt > 0 ? between(p, some, 8, 12, low, part, 1) : 0.0;
    if (step->decodes == 0)
        keys = 0.0;
    double verified = AT2(p->scalar, pool, 5);
    double each = (total - keys - reads) / ((double)step->decodes * verified + (double)step->prompt), decoded = 0.0;
    for (i64 j = 0; j < live->running[r]; j++) {
        i64 i = AT2(live->slot, r, j);
        double have = (double)AT2(live->have, r, j), taken = (double)AT2(live->take, r, j);
        if (AT2(live->turn, r, j) == 1) {
            double joules = each * verified + keys * (have + 1.0) / step->seen;
            out->decode[i] += joules;
            decoded += joules;
        } else if (taken > 0.0) {
            double joules = each * taken + reads * taken * (have + 0.5 * taken) / step->reach;
            out->prefill[i] += joules;
            if (out->preempted[i] > 0)
                out->recomputed[0] += joules;
        }
    }
    if (step->decodes > 0)
        spread(out, t, t + time, decoded, DECODE);
    if (step->prompt > 0)
        spread(out, t, t + time, total - decoded, PREFILL);
}

/* Return what the step that was scheduled does. */
static Doing doing(const Live *live, i64 r) {
    Doing step = {0, 0, 0, 0.0, 0.0};
    for (i64 j = 0; j < live->running[r]; j++) {
        i64 some = AT2(live->take, r, j), have = AT2(live->have, r, j);
        if (AT2(live->turn, r, j) == 1) {
            step.decodes += 1;
            step.seen += (double)have + 1.0;
        } else if (some > 0) {
            step.prompt += some;
            step.reach += (double)some * ((double)have + 0.5 * (double)some);
            if (have + some == AT2(live->goal, r, j))
                step.prompts += 1;
        }
    }
    return step;
}

/* Return the prices of a step before its level is chosen. */
static Priced priced_step(const Prices *p, i64 pool, const Doing *step) {
    Priced priced = {.pool = pool};
    double decodes = (double)step->decodes, prompt = (double)step->prompt, prompts = (double)step->prompts;
    double context = step->decodes > 0 ? step->seen / decodes : 1.0;
    double mean = step->prompt > 0 ? step->reach / prompt : 0.0;
    priced.corners = corners(p, pool, decodes, context, prompt, mean, prompts, 1.0, &priced.step);
    double groups = AT2(p->scalar, pool, 4);
    double crowd = step->prompt > 0 ? most(1.0, groups / (double)higher(step->prompts, 1)) : 1.0;
    if (crowd > 1.0)
        corners(p, pool, decodes, context, prompt, mean, prompts, crowd, &priced.late);
    else
        priced.late = priced.step;
    const double *h = &AT2(p->host, pool, 0);
    priced.host = h[0] + h[1] * decodes + h[2] * prompts;
    if (step->prompt > 0)
        priced.host += h[4];
    else if (decodes / groups > AT2(p->scalar, pool, 3))
        priced.host += h[3];
    return priced;
}

/* Start a step at t: schedule it, choose its clock, price it, hand its joules to the requests. */
static void begin(
    const Prices *p, const Rules *rules, const Work *work, const Knobs *knobs, const Live *live, const Out *out,
    i64 r, double t
) {
    settle(rules, live, out, r, t);
    schedule(p, rules, work, knobs, live, out, r, t);
    i64 pool = rules->pool[r];
    Doing step = doing(live, r);
    if (step.decodes + step.prompt == 0) {
        live->ends[r] = INFINITY;
        live->ready[r] = INFINITY;
        return;
    }
    Priced priced = priced_step(p, pool, &step);
    double asked = step.prompt > 0 ? knobs->mixed[r] : knobs->alone[r];
    double level = limited(p, &priced, asked);
    i64 low = lower((i64)level, p->cells_m - 2);
    double part = level - (double)low, joules;
    double slow = at_level(p, &priced, low, &joules), fast = slow;
    if (part > 0.0)
        fast = at_level(p, &priced, low + 1, &joules);
    double time = slow + part * (fast - slow) + live->swap[r];
    live->swap[r] = 0.0;
    charge(p, rules, live, out, r, t, time, low, part, &priced, &step);
    live->ready[r] = t;
    live->ends[r] = t + time;
    live->since[r] = t + time;
    live->steps[r] += 1;
    live->busy[r] += time;
    out->steps[r] += 1;
    out->busy[r] += time;
    out->awake[r] += time;
    AT2(out->levels, pool, lower((i64)(level + 0.5), p->cells_m - 1)) += time;
}

/* Return how many draft tokens hold: each with `chance`, up to the first that does not (a hash, SplitMix64). */
KERNEL i64 serving_accepted(i64 seed, i64 request, i64 position, i64 most, double chance) {
    u64 x = (u64)seed ^ ((u64)request * UINT64_C(0x9E3779B97F4A7C15)) ^
                 ((u64)position * UINT64_C(0xD1B54A32D192ED03));
    for (i64 k = 0; k < most; k++) {
        x += UINT64_C(0x9E3779B97F4A7C15);
        u64 z = x;
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        z = z ^ (z >> 31);
        if ((double)(z >> 11) * 0x1p-53 >= chance)
            return k;
    }
    return most;
}

/* The bin of the gap counted last: requests that decode together have had their last tokens together. */
typedef struct {
    double seconds;
    i64 tokens, bin;
} Gap;

/* Count tokens that came `seconds` after those before; several at once share the time. */
static void gap(const Out *out, double seconds, i64 tokens, Gap *before) {
    if (seconds != before->seconds || tokens != before->tokens) {
        double each = seconds / (double)tokens;
        i64 k = (i64)((log10(most(each, 1e-12)) - SMALLEST) * PER_DECADE);
        *before = (Gap){seconds, tokens, lower(higher(k, 0), out->gaps_n - 1)};
    }
    out->gaps[before->bin] += (double)tokens;
}

/* Give a decoding request its tokens of the step that ends at t; return whether it is done. */
static int decoded(
    const Prices *p, const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r, i64 j,
    double t, Gap *before
) {
    i64 i = AT2(live->slot, r, j), pool = rules->pool[r];
    i64 drafted = (i64)AT2(p->scalar, pool, 5) - 1, new = 1;
    if (drafted > 0)
        new += serving_accepted(rules->seed, i, out->generated[i], drafted, AT2(p->scalar, pool, 6));
    new = lower(new, work->output[i] - out->generated[i]);
    out->generated[i] += new;
    AT2(live->have, r, j) += new;
    live->tokens[r] += new;
    gap(out, t - out->last[i], new, before);
    out->last[i] = t;
    return out->generated[i] >= work->output[i];
}

/* Count the prompt tokens of the step that ends at t, and the first token where they were the last; whether done. */
static int prefilled(
    const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r, i64 j, double t, Gap *before
) {
    i64 i = AT2(live->slot, r, j);
    AT2(live->have, r, j) += AT2(live->take, r, j);
    if (AT2(live->have, r, j) < AT2(live->goal, r, j))
        return 0;
    if (out->first[i] < 0.0)
        out->first[i] = t;
    else
        gap(out, t - out->last[i], 1, before);
    out->last[i] = t;
    out->generated[i] += 1;
    live->tokens[r] += 1;
    if (rules->page > 0)
        mark(rules, work, live, r, i, AT2(live->have, r, j));
    return rules->prefill_only || out->generated[i] >= work->output[i];
}

/* End the step under way: tokens come out, finished requests leave. */
static void finish(const Prices *p, const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r) {
    double t = live->ends[r];
    i64 keep = 0;
    Gap before = {-1.0, 0, 0};
    for (i64 j = 0; j < live->running[r]; j++) {
        i64 i = AT2(live->slot, r, j);
        int done = 0;
        if (AT2(live->turn, r, j) == 1)
            done = decoded(p, rules, work, live, out, r, j, t, &before);
        else if (AT2(live->take, r, j) > 0)
            done = prefilled(rules, work, live, out, r, j, t, &before);
        if (done) {
            out->end[i] = t;
            release(rules, work, live, r, j);
            continue;
        }
        if (keep != j) {
            AT2(live->slot, r, keep) = i;
            AT2(live->have, r, keep) = AT2(live->have, r, j);
            AT2(live->goal, r, keep) = AT2(live->goal, r, j);
            AT2(live->held, r, keep) = AT2(live->held, r, j);
        }
        keep += 1;
    }
    live->running[r] = keep;
    live->ends[r] = INFINITY;
    live->ready[r] = t;
}

/* Run a replica: end every step that ends by `until`, start every step that starts before it. */
static void advance(
    const Prices *p, const Rules *rules, const Work *work, const Knobs *knobs, const Live *live, const Out *out,
    i64 r, double until
) {
    for (;;) {
        if (live->ends[r] < INFINITY) {
            if (live->ends[r] > until)
                return;
            finish(p, rules, work, live, out, r);
        }
        if (live->running[r] + live->queued[r] == 0) {
            if (live->state[r] == DRAINING)
                live->state[r] = OFF;
            return;
        }
        double start = most(live->ready[r], live->woken[r]);
        if (start >= until)
            return;
        begin(p, rules, work, knobs, live, out, r, start);
        if (live->ends[r] == INFINITY)
            return;
    }
}

/* ---- many replicas ----------------------------------------------------------------------------- */

/* Return the replica a request goes to; -1 where none takes requests of its length. */
static i64 route(const Rules *rules, const Work *work, const Knobs *knobs, const Live *live, i64 i) {
    i64 tokens = work->prompt[i] + work->output[i], count = rules->pool_n, best = -1, hits = -1;
    double lightest = INFINITY;
    for (i64 k = 0; k < count; k++) {
        i64 r = rules->route == ROUND_ROBIN ? (live->cursor[1] + k) % count : k;
        i64 pool = rules->pool[r], state = live->state[r];
        if (state == OFF || state == DRAINING || tokens > rules->longest[pool])
            continue;
        if (rules->route == ROUND_ROBIN) {
            live->cursor[1] = (r + 1) % count;
            return r;
        }
        i64 cap = lower(knobs->cap[r], rules->batch[pool]);
        double load = (double)(live->running[r] + live->queued[r]) / (double)cap;
        if (state == STARTING)
            load += 1.0;
        if (rules->route == PACK && load < 1.0)
            load = load > 0.0 ? -load : -1e-9; /* the fullest that still has room, the first one of equals */
        i64 hit = rules->route == PREFIX && load < 1.0 ? found(rules, work, live, r, i) : 0;
        if (hit > hits || (hit == hits && load < lightest)) {
            best = r;
            lightest = load;
            hits = hit;
        }
    }
    return best;
}

/* Run everything up to `until`, arrivals at `until` included; return the request that no replica takes, or -1. */
KERNEL i64 serving_run(
    const Prices *p, const Rules *rules, const Work *work, const Knobs *knobs, const Live *live, const Out *out,
    double until
) {
    i64 count = rules->pool_n, *cursor = live->cursor;
    while (cursor[0] < work->arrival_n && work->arrival[cursor[0]] <= until) {
        i64 i = cursor[0];
        double t = work->arrival[i];
        for (i64 r = 0; r < count; r++)
            if (live->running[r] + live->queued[r] > 0)
                advance(p, rules, work, knobs, live, out, r, t);
        i64 r = route(rules, work, knobs, live, i);
        if (r < 0)
            return i;
        if (live->running[r] + live->queued[r] == 0)
            live->ready[r] = t;
        enqueue(work, live, out, r, i, 0);
        out->replica[i] = r;
        live->arrived[r] += 1;
        cursor[0] = i + 1;
    }
    for (i64 r = 0; r < count; r++)
        if (live->running[r] + live->queued[r] > 0)
            advance(p, rules, work, knobs, live, out, r, until);
    return -1;
}

/* Wake or retire replicas of a pool until `target` take requests; the last ones go first. */
KERNEL void serving_scale(const Rules *rules, const Live *live, const Out *out, i64 pool, i64 target, double t) {
    i64 count = rules->pool_n, taking = 0, *state = live->state;
    for (i64 r = 0; r < count; r++)
        if (rules->pool[r] == pool && (state[r] == ON || state[r] == STARTING))
            taking += 1;
    for (i64 r = 0; r < count; r++)
        if (taking < target && rules->pool[r] == pool && state[r] == DRAINING) {
            state[r] = ON;
            taking += 1;
        }
    for (i64 r = 0; r < count; r++)
        if (taking < target && rules->pool[r] == pool && state[r] == OFF) {
            settle(rules, live, out, r, t);
            state[r] = STARTING;
            live->woken[r] = t + rules->start_time[pool];
            taking += 1;
        }
    for (i64 r = count - 1; r >= 0; r--) {
        if (taking <= target || rules->pool[r] != pool || (state[r] != ON && state[r] != STARTING))
            continue;
        if (live->running[r] + live->queued[r] > 0) {
            if (state[r] == STARTING)
                continue;
            state[r] = DRAINING;
        } else {
            settle(rules, live, out, r, t);
            state[r] = OFF;
        }
        taking -= 1;
    }
}

/* Count what every replica draws while it does nothing, up to t. */
KERNEL void serving_close(const Rules *rules, const Live *live, const Out *out, double t) {
    for (i64 r = 0; r < rules->pool_n; r++) {
        if (live->state[r] == DRAINING)
            live->state[r] = OFF;
        settle(rules, live, out, r, t);
    }
}

/* Add joules to the bins of [start, end). */
KERNEL void serving_spread(const Out *out, double start, double end, double joules, i64 phase) {
    spread(out, start, end, joules, phase);
}
