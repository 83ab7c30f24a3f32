/* Energy in time, queues and blocks of the serving simulator: the same as serving/simulate/_core.py, line by line. */
#ifndef WATTLINE_SERVING_STEP_H
#define WATTLINE_SERVING_STEP_H

#include "serving_price.h"

/* ---- energy in time ---------------------------------------------------------------------------- */

/* Add joules to the bins of [start, end); bins double in width where time runs past the last one. */
static void spread(const Out *out, double start, double end, double joules, i64 phase) {
    i64 bins = out->power_n, columns = out->power_m;
    double *power = out->power;
    while (end > (double)bins * out->width[0]) {
        i64 half = bins / 2;
        for (i64 b = 0; b < half; b++)
            for (i64 c = 0; c < columns; c++)
                power[b * columns + c] = power[2 * b * columns + c] + power[(2 * b + 1) * columns + c];
        for (i64 b = half * columns; b < bins * columns; b++)
            power[b] = 0.0;
        out->width[0] *= 2.0;
    }
    double w = out->width[0];
    i64 a = lower((i64)(start / w), bins - 1), z = lower((i64)(end / w), bins - 1);
    if (a == z || end <= start) {
        power[a * columns + phase] += joules;
        return;
    }
    double density = joules / (end - start), left = joules;
    for (i64 b = a; b < z; b++) {
        double part = density * ((double)(b + 1) * w - most(start, (double)b * w));
        power[b * columns + phase] += part;
        left -= part;
    }
    power[z * columns + phase] += left;
}

/* Count what a replica outside a step drew up to t: idle, starting or off. */
static void settle(const Rules *rules, const Live *live, const Out *out, i64 r, double t) {
    i64 pool = rules->pool[r];
    double *since = &live->since[r];
    if (live->state[r] == STARTING) {
        double until = least(t, live->woken[r]);
        if (until > *since) {
            out->awake[r] += until - *since;
            double joules = rules->start_power[pool] * (until - *since);
            out->cold[r] += joules;
            spread(out, *since, until, joules, COLD);
            *since = until;
        }
        if (live->woken[r] > t)
            return;
        live->state[r] = ON;
    }
    double span = t - *since;
    if (span <= 0.0)
        return;
    if (live->state[r] == OFF) {
        double joules = rules->off[pool] * span;
        out->cold[r] += joules;
        if (joules > 0.0)
            spread(out, *since, t, joules, COLD);
    } else {
        double joules = rules->idle[pool] * span;
        out->idle[r] += joules;
        out->awake[r] += span;
        spread(out, *since, t, joules, IDLE);
    }
    *since = t;
}

/* ---- queues and blocks ------------------------------------------------------------------------- */

/* Put a request into a replica's queue: behind all of its class and before it, or in front of its class. */
static void enqueue(const Work *work, const Live *live, const Out *out, i64 r, i64 i, int front) {
    i64 mine = work->urgency[i];
    live->queued[r] += 1;
    if (live->queued[r] == 1) {
        live->head[r] = live->tail[r] = i;
        out->next[i] = -1;
        return;
    }
    if (!front && work->urgency[live->tail[r]] <= mine) {
        out->next[live->tail[r]] = i;
        live->tail[r] = i;
        out->next[i] = -1;
        return;
    }
    i64 before = -1, at = live->head[r];
    while (at >= 0 && (work->urgency[at] < mine || (!front && work->urgency[at] == mine))) {
        before = at;
        at = out->next[at];
    }
    out->next[i] = at;
    if (before < 0)
        live->head[r] = i;
    else
        out->next[before] = i;
    if (at < 0)
        live->tail[r] = i;
}

/* Note that the first pages of a request's prompt lie on the replica, as given back just now. */
static void mark(const Rules *rules, const Work *work, const Live *live, i64 r, i64 i, i64 have) {
    i64 first = work->first[i];
    i64 pages = lower(work->first[i + 1] - first, have / rules->page);
    for (i64 k = first; k < first + pages; k++)
        AT2(live->kept, r, work->page[k]) = live->pushed[r];
}

/* Give back the blocks of a slot; full prefix pages among them stay until their place is taken. */
static void release(const Rules *rules, const Work *work, const Live *live, i64 r, i64 j) {
    live->used[r] -= AT2(live->held, r, j);
    live->pushed[r] += AT2(live->held, r, j);
    if (rules->page > 0)
        mark(rules, work, live, r, AT2(live->slot, r, j), AT2(live->have, r, j));
}

/* Return the tokens of a prompt that the replica still holds: leading pages, one token left to compute. */
static i64 found(const Rules *rules, const Work *work, const Live *live, i64 r, i64 i) {
    if (rules->page <= 0)
        return 0;
    i64 pages = 0;
    for (i64 k = work->first[i]; k < work->first[i + 1]; k++) {
        /* A page stays until as many blocks as were free when it was given back have been taken since. */
        if (live->popped[r] >= AT2(live->kept, r, work->page[k]))
            break;
        pages += 1;
    }
    return lower(pages * rules->page, work->prompt[i] - 1);
}

/* Preempt the request admitted last: its blocks are freed and it goes to the front of the queue. */
static void evict(const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r) {
    i64 j = live->running[r] - 1;
    i64 i = AT2(live->slot, r, j);
    release(rules, work, live, r, j);
    live->running[r] = j;
    out->preempted[i] += 1;
    work->brought[i] = 0;
    i64 pool = rules->pool[r], have = AT2(live->have, r, j);
    if (rules->offload[pool] > 0.0 && have >= AT2(live->goal, r, j)) {
        work->brought[i] = have;
        live->swap[r] += rules->offload[pool] * (double)have;
    }
    enqueue(work, live, out, r, i, 1);
}

/* Return the blocks that `tokens` of a request take. */
static i64 needed(const Rules *rules, i64 pool, i64 tokens) {
    return (tokens + rules->block[pool] - 1) / rules->block[pool] + rules->reserve[pool];
}

/* Give slot j the blocks for `tokens`; preempt those admitted last where none is free. 0: j itself went. */
static int grow(
    const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r, i64 j, i64 tokens
) {
    i64 pool = rules->pool[r];
    /* Nearly always it has them; a product says so sooner than the division of `needed`. */
    if (tokens <= (AT2(live->held, r, j) - rules->reserve[pool]) * rules->block[pool])
        return 1;
    i64 need = needed(rules, pool, tokens) - AT2(live->held, r, j);
    while (need > rules->blocks[pool] - live->used[r]) {
        i64 gone = live->running[r] - 1;
        evict(rules, work, live, out, r);
        if (gone == j)
            return 0;
    }
    if (need > 0) {
        AT2(live->held, r, j) += need;
        live->used[r] += need;
        live->popped[r] += need;
    }
    return 1;
}

/* Return the tokens that a request is taken to need yet after its prompt, as its scheduler counts them. */
static i64 due(const Rules *rules, const Work *work, const Out *out, i64 pool, i64 i, double ratio, i64 verified) {
    i64 kind = rules->scheduler[pool];
    if (kind == VLLM || kind == GREEDY || rules->prefill_only)
        return 0;
    i64 rest = work->output[i] - out->generated[i];
    return kind == NO_EVICT ? rest + verified : (i64)(ratio * (double)lower(rest, CLIP));
}

/* Return the free blocks that running requests will yet take, as their scheduler counts them. */
static i64 spoken_for(
    const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r, i64 verified
) {
    i64 pool = rules->pool[r], total = 0;
    if (rules->scheduler[pool] == GREEDY)
        return 0;
    for (i64 j = 0; j < live->running[r]; j++) {
        i64 tokens = higher(AT2(live->have, r, j), AT2(live->goal, r, j));
        tokens += due(rules, work, out, pool, AT2(live->slot, r, j), live->ratio[r], verified);
        total += higher(needed(rules, pool, tokens) - AT2(live->held, r, j), 0);
    }
    return total;
}

/* Let every request whose prompt is read decode; return whether one was preempted. */
static int decode_all(
    const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r, i64 verified, i64 *budget
) {
    i64 *running = &live->running[r];
    int preempted = 0;
    for (i64 j = 0; j < *running; j++) {
        if (AT2(live->have, r, j) >= AT2(live->goal, r, j) && AT2(live->turn, r, j) == 0) {
            i64 n = *running;
            if (grow(rules, work, live, out, r, j, AT2(live->have, r, j) + verified)) {
                AT2(live->take, r, j) = verified;
                AT2(live->turn, r, j) = 1;
                *budget -= verified;
            }
            preempted = preempted || *running < n;
        }
    }
    return preempted;
}

/* Go on reading the prompts under way; return whether a request was preempted. */
static int read_on(const Rules *rules, const Work *work, const Live *live, const Out *out, i64 r, i64 *budget) {
    i64 *running = &live->running[r];
    int preempted = 0;
    for (i64 j = 0; j < *running; j++) {
        if (AT2(live->have, r, j) < AT2(live->goal, r, j) && *budget > 0) {
            i64 n = *running, some = lower(*budget, AT2(live->goal, r, j) - AT2(live->have, r, j));
            if (grow(rules, work, live, out, r, j, AT2(live->have, r, j) + some)) {
                AT2(live->take, r, j) = some;
                *budget -= some;
            }
            preempted = preempted || *running < n;
        }
    }
    return preempted;
}

/* Admit requests from the queue while slots, tokens and blocks last; an empty replica takes whatever fits. */
static void admit(
    const Rules *rules, const Work *work, const Knobs *knobs, const Live *live, const Out *out, i64 r, double t,
    i64 verified, i64 budget
) {
    i64 pool = rules->pool[r], cap = lower(knobs->cap[r], rules->batch[pool]);
    if (live->queued[r] == 0)
        return;
    i64 spoken = spoken_for(rules, work, live, out, r, verified);
    while (live->queued[r] > 0 && live->running[r] < cap && budget > 0) {
        i64 i = live->head[r];
        if (out->generated[i] == 0 && out->begun[i] < 0.0 && t - work->arrival[i] > rules->patience) {
            live->head[r] = out->next[i];
            live->queued[r] -= 1;
            out->gone[i] = 1;
            out->first[i] = out->last[i] = out->end[i] = work->arrival[i] + rules->patience;
            continue;
        }
        i64 goal = work->prompt[i] + out->generated[i], have = work->brought[i];
        if (have > 0)
            goal = have;
        else
            have = lower(found(rules, work, live, r, i), goal - 1);
        int decodes = have >= goal;
        i64 some = decodes ? verified : lower(budget, goal - have);
        i64 need = needed(rules, pool, have + some), free = rules->blocks[pool] - live->used[r], more = 0;
        if (some > budget || need > free)
            break;
        if (rules->scheduler[pool] != GREEDY) {
            i64 whole = needed(rules, pool, goal + due(rules, work, out, pool, i, 1.0, verified));
            if (live->running[r] > 0 && whole > free - spoken)
                break;
            more = higher(whole - need, 0);
        }
        live->head[r] = out->next[i];
        live->queued[r] -= 1;
        i64 j = live->running[r]++;
        AT2(live->slot, r, j) = i;
        AT2(live->have, r, j) = have;
        AT2(live->goal, r, j) = goal;
        AT2(live->held, r, j) = need;
        AT2(live->take, r, j) = some;
        AT2(live->turn, r, j) = decodes;
        live->used[r] += need;
        live->popped[r] += need;
        spoken += more;
        if (decodes && out->preempted[i] > 0)
            live->swap[r] += rules->offload[pool] * (double)have;
        if (work->brought[i] == 0)
            out->cached[i] += have;
        if (out->begun[i] < 0.0)
            out->begun[i] = t;
        out->replica[i] = r;
        budget -= some;
    }
}

/* Return SGLang's estimate after a request was taken back: what was generated and 20 steps more, of all. */
static double retracted(const Work *work, const Live *live, const Out *out, i64 r) {
    i64 made = 0, whole = 0;
    for (i64 j = 0; j < live->running[r]; j++) {
        made += out->generated[AT2(live->slot, r, j)] + RETRACT;
        whole += work->output[AT2(live->slot, r, j)];
    }
    return least((double)made / ((double)whole + 1.0), 1.0);
}

/* Choose what the step does: `take` and `turn` of every slot. */
static void schedule(
    const Prices *p, const Rules *rules, const Work *work, const Knobs *knobs, const Live *live, const Out *out,
    i64 r, double t
) {
    i64 pool = rules->pool[r];
    i64 verified = (i64)AT2(p->scalar, pool, 5), budget = rules->chunk[pool];
    for (i64 j = 0; j < live->running[r]; j++) {
        AT2(live->take, r, j) = 0;
        AT2(live->turn, r, j) = 0;
    }
    if (rules->scheduler[pool] == SGLANG) {
        if (!read_on(rules, work, live, out, r, &budget))
            admit(rules, work, knobs, live, out, r, t, verified, budget);
        for (i64 j = 0; j < live->running[r]; j++)
            if (AT2(live->take, r, j) > 0 && AT2(live->turn, r, j) == 0)
                return;
        int preempted = decode_all(rules, work, live, out, r, verified, &budget);
        live->ratio[r] = most(live->ratio[r] - (RATIO - LEAST) / DECAY, LEAST);
        if (preempted)
            live->ratio[r] = retracted(work, live, out, r);
        return;
    }
    int one = decode_all(rules, work, live, out, r, verified, &budget);
    int two = read_on(rules, work, live, out, r, &budget);
    /* A decoding request counted before may have gone since; its share of the budget is left unused. */
    if (!one && !two)
        admit(rules, work, knobs, live, out, r, t, verified, budget);
}

#endif
