/* A parametric minimum-cost flow over events. Says what frontier/_flow.py says, which explains it. */
#include "heap.h"
#include "kernels.h"

static const i64 INFINITE = (i64)1 << 61; /* twice this still fits, and potentials stay below 2**57 */

KERNEL i64 flow_sorted(i64 count, const i64 *edges, i64 edges_n, i64 *order) {
    i64 *pointer = NEW(i64, count + 2), *waits = NEW(i64, count), *after = NEW(i64, edges_n);
    for (i64 k = 0; k < edges_n; k++) {
        pointer[edges[2 * k] + 2]++;
        waits[edges[2 * k + 1]]++;
    }
    for (i64 v = 0; v < count; v++) pointer[v + 2] += pointer[v + 1];
    for (i64 k = 0; k < edges_n; k++) after[pointer[edges[2 * k] + 1]++] = edges[2 * k + 1];
    i64 done = 0;
    for (i64 v = 0; v < count; v++)
        if (waits[v] == 0) order[done++] = v;
    for (i64 turn = 0; turn < done; turn++) {
        i64 v = order[turn];
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            i64 w = after[k];
            if (--waits[w] == 0) order[done++] = w;
        }
    }
    free(pointer);
    free(waits);
    free(after);
    return done;
}

static i64 root(i64 *parent, i64 v) {
    while (parent[v] != v) {
        parent[v] = parent[parent[v]];
        v = parent[v];
    }
    return v;
}

KERNEL i64 flow_contract(const i64 *classes, i64 classes_n, const i64 *edges, i64 edges_n, i64 *tail, i64 *head,
                         i64 *kind, i64 *ends) {
    i64 n = classes_n;
    i64 *before = NEW(i64, n), *after = NEW(i64, n), *parent = NEW(i64, 2 * n + 2), *name = NEW(i64, 2 * n + 2);
    for (i64 k = 0; k < edges_n; k++) {
        after[edges[2 * k]]++;
        before[edges[2 * k + 1]]++;
    }
    for (i64 v = 0; v < 2 * n + 2; v++) {
        parent[v] = v;
        name[v] = -1;
    }
    for (i64 k = 0; k < edges_n; k++)
        if (after[edges[2 * k]] == 1 || before[edges[2 * k + 1]] == 1) {
            i64 start = root(parent, 2 * edges[2 * k + 1]);
            parent[root(parent, 2 * edges[2 * k] + 1)] = start;
        }
    for (i64 i = 0; i < n; i++) {
        if (before[i] == 0) {
            i64 source = root(parent, 2 * n);
            parent[root(parent, 2 * i)] = source;
        }
        if (after[i] == 0) {
            i64 target = root(parent, 2 * n + 1);
            parent[root(parent, 2 * i + 1)] = target;
        }
    }
    i64 events = 0;
    for (i64 v = 0; v < 2 * n + 2; v++) {
        i64 r = root(parent, v);
        if (name[r] < 0) name[r] = events++;
    }
    for (i64 i = 0; i < n; i++) {
        tail[i] = name[root(parent, 2 * i)];
        head[i] = name[root(parent, 2 * i + 1)];
        kind[i] = classes[i] + 1;
    }
    i64 arcs = n;
    for (i64 k = 0; k < edges_n; k++) {
        i64 u = name[root(parent, 2 * edges[2 * k] + 1)], v = name[root(parent, 2 * edges[2 * k + 1])];
        if (u != v) {
            tail[arcs] = u;
            head[arcs] = v;
            kind[arcs] = 0;
            arcs++;
        }
    }
    ends[0] = events;
    ends[1] = name[root(parent, 2 * n)];
    ends[2] = name[root(parent, 2 * n + 1)];
    free(before);
    free(after);
    free(parent);
    free(name);
    return arcs;
}

KERNEL void flow_earliest_ticks(const i64 *order, i64 order_n, const i64 *pointer, const u32 *arc, const u32 *tail,
                                const u32 *head, const i64 *length, i64 *time) {
    for (i64 i = 0; i < order_n; i++) {
        i64 v = order[i];
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            u32 a = arc[k];
            if (tail[a] == v && time[v] + length[a] > time[head[a]]) time[head[a]] = time[v] + length[a];
        }
    }
}

KERNEL void flow_earliest_seconds(const i64 *order, i64 order_n, const i64 *pointer, const u32 *arc, const u32 *tail,
                                  const u32 *head, const double *length, double *time) {
    for (i64 i = 0; i < order_n; i++) {
        i64 v = order[i];
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++) {
            u32 a = arc[k];
            if (tail[a] == v && time[v] + length[a] > time[head[a]]) time[head[a]] = time[v] + length[a];
        }
    }
}

KERNEL void flow_incidence(i64 events, const u32 *tail, i64 tail_n, const u32 *head, i64 *pointer, u32 *arc,
                           u32 *other, u32 *place) {
    for (i64 a = 0; a < tail_n; a++) {
        pointer[tail[a] + 2]++;
        pointer[head[a] + 2]++;
    }
    for (i64 v = 0; v < events; v++) pointer[v + 2] += pointer[v + 1];
    for (i64 a = 0; a < tail_n; a++) {
        i64 k = pointer[tail[a] + 1]++;
        arc[k] = (u32)a;
        other[k] = head[a];
        place[2 * a] = (u32)k;
        k = pointer[head[a] + 1]++;
        arc[k] = (u32)a;
        other[k] = tail[a];
        place[2 * a + 1] = (u32)k;
    }
}

typedef struct {
    const u32 *tail, *head;
    i64 tail_n;
    const i64 *first, *last, *pointer;
    i64 pointer_n;
    const u32 *arc, *other, *place;
    const i64 *length, *flow_at;
    i64 source, target;
} Arcs;

/* Refresh both bounds of an arc after a change of flow; `k` is its level for more flow. */
static inline void price_arc(const Arcs *n, i64 a, i64 k, i64 flow, i64 *bound) {
    const u32 *place = n->place + 2 * a;
    bound[place[0]] = n->length[k];
    if (flow > n->flow_at[k])
        bound[place[1]] = -n->length[k];
    else if (k > n->first[a])
        bound[place[1]] = -n->length[k - 1];
    else
        bound[place[1]] = -2 * INFINITE;
}

/* Put every arc on the level its flow belongs to. */
static void set_levels(const Arcs *n, const i64 *flow, i32 *level, i64 *bound) {
    for (i64 a = 0; a < n->tail_n; a++) {
        i64 k = n->first[a];
        while (k < n->last[a] && n->flow_at[k + 1] <= flow[a]) k++;
        level[a] = (i32)k;
        price_arc(n, a, k, flow[a], bound);
    }
}

/* Send `most` along the residual arc at place y of arc a. */
static inline void send(const Arcs *n, u32 y, i64 most, i64 *flow, i32 *level, i64 *bound) {
    u32 a = n->arc[y];
    i64 k = level[a];
    if (n->place[2 * a] == y) {
        flow[a] += most;
        if (k < n->last[a] && flow[a] == n->flow_at[k + 1]) k++;
    } else {
        if (flow[a] == n->flow_at[k]) k--;
        flow[a] -= most;
    }
    level[a] = (i32)k;
    price_arc(n, a, k, flow[a], bound);
}

/* How much the residual arc at place y takes until its length changes. */
static inline i64 room_at(const Arcs *n, u32 y, const i64 *flow, const i32 *level) {
    u32 a = n->arc[y];
    i64 k = level[a];
    if (n->place[2 * a] == y) return k < n->last[a] ? n->flow_at[k + 1] - flow[a] : INFINITE;
    return flow[a] > n->flow_at[k] ? flow[a] - n->flow_at[k] : n->flow_at[k] - n->flow_at[k - 1];
}

KERNEL i64 flow_climb(const Arcs *network, i64 *time, i64 time_n, i64 *flow, i64 flow_n, i64 record_from, i64 stop,
                      i64 ceiling, i64 *keep_times, i64 *keep_flows, i64 *keep_prices, i64 keep_prices_n,
                      i64 *completions, i64 *prices, i64 prices_n, i64 *progress) {
    const Arcs *n = network;
    const i64 *restrict pointer = n->pointer;
    const u32 *restrict other = n->other;
    i64 events = time_n, arcs = n->tail_n, source = n->source, target = n->target;
    i32 *level = NEW(i32, arcs);
    i64 *restrict bound = NEW(i64, 2 * arcs);
    set_levels(n, flow, level, bound);
    i32 *restrict rank = NEW(i32, events);      /* place in the queue; `events` while not settled */
    i32 *restrict cause = NEW(i32, events + 1); /* place of the event that led to the one at a place, or a later one */
    i32 *walked = NEW(i32, events);             /* the last sweep that walked back through it */
    i64 *shift = NEW(i64, events);
    u32 *restrict queue = NEW(u32, events + 1);
    i64 *turn = NEW(i64, events);
    u32 *path = NEW(u32, events);
    i64 *keys = NEW(i64, 2 * arcs + 1), *values = NEW(i64, 2 * arcs + 1);
    i64 price = progress[0], kept = progress[1], sweeps = progress[2], spacing = progress[3];
    i32 sweep = 0; /* of this call */
    i64 points = 0, completion = time[target] - time[source], settled = 1, front = 0;
    progress[4] = 1;
    for (i64 v = 0; v < events; v++) rank[v] = (i32)events;
    rank[source] = 0;
    queue[0] = (u32)source;
    for (;;) {
        if (keep_prices_n > 0 && sweeps % spacing == 0) {
            if (kept == keep_prices_n) {
                for (i64 i = 0; i < kept / 2; i++) {
                    memcpy(keep_times + i * time_n, keep_times + 2 * i * time_n, (size_t)time_n * sizeof(i64));
                    memcpy(keep_flows + i * flow_n, keep_flows + 2 * i * flow_n, (size_t)flow_n * sizeof(i64));
                    keep_prices[i] = keep_prices[2 * i];
                }
                kept /= 2;
                spacing *= 2;
            }
            if (sweeps % spacing == 0) {
                memcpy(keep_times + kept * time_n, time, (size_t)time_n * sizeof(i64));
                memcpy(keep_flows + kept * flow_n, flow, (size_t)flow_n * sizeof(i64));
                keep_prices[kept] = price;
                kept++;
            }
        }
        sweeps++;
        sweep++;
        /* Settle events by distance from the source, level by level; no branch to mispredict inside of one. */
        i64 start = 0, waiting = 0, step = 0;
        for (;;) {
            while (front < settled) {
                u32 u = queue[front];
                i64 now = time[u];
                for (i64 y = pointer[u], end = pointer[u + 1]; y < end; y++) {
                    u32 w = other[y];
                    i32 before = rank[w];
                    i32 hit = (now + bound[y] == time[w]) & (before == (i32)events);
                    queue[settled] = w;
                    cause[settled] = (i32)front;
                    rank[w] = before + (-hit & ((i32)settled - before));
                    settled += hit;
                }
                front++;
            }
            if (rank[target] < events) break;
            for (i64 i = start; i < settled; i++) {
                u32 u = queue[i];
                for (i64 y = pointer[u]; y < pointer[u + 1]; y++) {
                    u32 w = other[y];
                    if (rank[w] == events) {
                        i64 d = step + time[w] - time[u] - bound[y];
                        if (d < INFINITE) push(keys, values, waiting++, d, w);
                    }
                }
                shift[i] = step;
            }
            start = settled;
            while (rank[values[0]] < events) pop(keys, values, waiting--);
            step = keys[0];
            rank[values[0]] = (i32)settled;
            cause[settled] = (i32)settled - 1;
            queue[settled] = (u32)values[0];
            settled++;
            pop(keys, values, waiting--);
        }
        rank[target] = (i32)events; /* after all others */
        turn[target] = pointer[target];
        if (step > 0 && price >= record_from) {
            if (points + 1 >= prices_n) {
                progress[4] = 0;
                goto done;
            }
            completions[points] = completion;
            prices[points] = price;
            points++;
        }
        /* Everything beyond the settled events happens earlier by the step, or these happen later: the same. */
        bool stopped = completion - step <= stop;
        if (stopped) step = completion - stop;
        for (i64 i = 0; i < start; i++) time[queue[i]] += higher(step - shift[i], 0);
        completion -= step;
        if (stopped) goto done;
        /* Fill every path without slack that follows the settled order. */
        i64 v = target, depth = 0;
        for (;;) {
            if (v == source) {
                i64 most = INFINITE, cut = 0;
                for (i64 i = 0; i < depth; i++) {
                    /* Walked back: the place is at the far end, so the flow goes the other way. */
                    u32 y = path[i], a = n->arc[y];
                    i64 room = room_at(n, n->place[2 * a] == y ? n->place[2 * a + 1] : n->place[2 * a], flow, level);
                    if (room < most) {
                        most = room;
                        cut = i;
                    }
                }
                if (most >= INFINITE) {
                    completions[points] = completion;
                    prices[points] = INFINITE;
                    points++;
                    goto done;
                }
                most = lower(most, ceiling - price);
                price += most;
                for (i64 i = 0; i < depth; i++) {
                    u32 y = path[i], a = n->arc[y], back = n->place[2 * a] == y ? n->place[2 * a + 1] : n->place[2 * a];
                    send(n, back, most, flow, level, bound);
                    /* Did this close the arc by which its far end was settled? Then the sweep is void from there. */
                    u32 u = other[y], w = n->place[2 * a + 1] == y ? n->head[a] : n->tail[a];
                    bool closed = bound[back] != time[w] - time[u];
                    bool by_this = w == target || cause[rank[w]] == rank[u] || cause[rank[w]] == rank[w] - 1;
                    if (closed && by_this && rank[u] < front) front = rank[u];
                }
                if (price >= ceiling) goto done;
                depth = cut;
                u32 y = path[cut], a = n->arc[y];
                v = n->place[2 * a + 1] == y ? n->head[a] : n->tail[a];
            }
            bool found = false;
            i64 y = turn[v];
            for (; y < pointer[v + 1]; y++) {
                u32 u = other[y];
                if (rank[u] < rank[v]) {
                    u32 a = n->arc[y], back = n->place[2 * a + 1] == y ? n->place[2 * a] : n->place[2 * a + 1];
                    if (time[v] - time[u] == bound[back]) {
                        found = true;
                        break;
                    }
                }
            }
            turn[v] = y;
            if (found) {
                path[depth++] = (u32)y;
                v = other[y];
                if (walked[v] != sweep) {
                    walked[v] = sweep;
                    turn[v] = pointer[v];
                }
            } else if (v == target) {
                break;
            } else {
                depth--;
                u32 z = path[depth], a = n->arc[z];
                v = n->place[2 * a + 1] == z ? n->head[a] : n->tail[a];
                turn[v]++;
            }
        }
        /* What was settled before the first void place stands; the next sweep goes on from there. */
        i64 keep = front + 1;
        while (keep < settled && cause[keep] < front) keep++;
        for (i64 i = keep; i < settled; i++) rank[queue[i]] = (i32)events;
        settled = keep;
    }
done:
    progress[0] = price;
    progress[1] = kept;
    progress[2] = sweeps;
    progress[3] = spacing;
    free(level);
    free(bound);
    free(rank);
    free(cause);
    free(walked);
    free(shift);
    free(queue);
    free(turn);
    free(path);
    free(keys);
    free(values);
    return points;
}

static void admit(const Arcs *n, i64 *time, i64 events, i64 *flow) {
    for (i64 v = 0; v < events; v++)
        for (i64 y = n->pointer[v]; y < n->pointer[v + 1]; y++) {
            u32 a = n->arc[y];
            if (n->place[2 * a] == y) time[n->head[a]] = higher(time[n->head[a]], time[v] + n->length[n->last[a]]);
        }
    for (i64 a = 0; a < n->tail_n; a++) {
        i64 duration = time[n->head[a]] - time[n->tail[a]], k = n->first[a];
        while (n->length[k] > duration) k++;
        i64 most = n->flow_at[k];
        if (n->length[k] == duration) most = k < n->last[a] ? n->flow_at[k + 1] : INFINITE;
        flow[a] = lower(higher(flow[a], n->flow_at[k]), most);
    }
}

static i64 *excess_of(const Arcs *n, const i64 *flow, i64 price) {
    i64 *excess = NEW(i64, n->pointer_n - 1);
    excess[n->source] += price;
    excess[n->target] -= price;
    for (i64 a = 0; a < n->tail_n; a++) {
        excess[n->tail[a]] -= flow[a];
        excess[n->head[a]] += flow[a];
    }
    return excess;
}

KERNEL double flow_imbalance(const Arcs *network, i64 *time, i64 time_n, i64 *flow, i64 price) {
    admit(network, time, time_n, flow);
    i64 *excess = excess_of(network, flow, price);
    double total = 0.0;
    for (i64 v = 0; v < network->pointer_n - 1; v++) total += fabs((double)excess[v]);
    free(excess);
    return total;
}

KERNEL i64 flow_balance(const Arcs *network, i64 *time, i64 time_n, i64 *flow, i64 price, i64 limit) {
    const Arcs *n = network;
    i64 events = time_n, arcs = n->tail_n;
    admit(n, time, events, flow);
    i32 *level = NEW(i32, arcs);
    i64 *bound = NEW(i64, 2 * arcs), *excess = excess_of(n, flow, price), *distance = NEW(i64, events);
    set_levels(n, flow, level, bound);
    bool *settled = NEW(bool, events);
    u32 *cause = NEW(u32, events), *touched = NEW(u32, events);
    i64 *keys = NEW(i64, 2 * arcs + 1), *values = NEW(i64, 2 * arcs + 1);
    for (i64 v = 0; v < events; v++) distance[v] = INFINITE;
    i64 visited = 0;
    for (i64 begin = 0; begin < events; begin++) {
        while (excess[begin] > 0) {
            distance[begin] = 0;
            touched[0] = (u32)begin;
            i64 seen = 1, waiting = 1, u = begin, step = 0;
            keys[0] = 0;
            values[0] = begin;
            for (;;) {
                if (waiting == 0 || visited > limit) {
                    visited = -1;
                    goto done;
                }
                visited++;
                step = keys[0];
                u = values[0];
                pop(keys, values, waiting--);
                if (settled[u]) continue;
                if (excess[u] < 0) break;
                settled[u] = true;
                for (i64 y = n->pointer[u]; y < n->pointer[u + 1]; y++) {
                    u32 w = n->other[y];
                    i64 d = step + time[w] - time[u] - bound[y];
                    if (d < distance[w]) {
                        if (distance[w] == INFINITE) touched[seen++] = w;
                        distance[w] = d;
                        cause[w] = (u32)y;
                        push(keys, values, waiting++, d, w);
                    }
                }
            }
            i64 end = u, most = lower(excess[begin], -excess[end]);
            while (u != begin) {
                u32 y = cause[u], a = n->arc[y];
                most = lower(most, room_at(n, y, flow, level));
                u = n->place[2 * a] == y ? n->tail[a] : n->head[a];
            }
            u = end;
            while (u != begin) {
                u32 y = cause[u], a = n->arc[y];
                send(n, y, most, flow, level, bound);
                u = n->place[2 * a] == y ? n->tail[a] : n->head[a];
            }
            excess[begin] -= most;
            excess[end] += most;
            for (i64 i = 0; i < seen; i++) {
                u32 w = touched[i];
                if (settled[w]) {
                    time[w] += step - distance[w];
                    settled[w] = false;
                }
                distance[w] = INFINITE;
            }
        }
    }
done:
    free(level);
    free(bound);
    free(excess);
    free(distance);
    free(settled);
    free(cause);
    free(touched);
    free(keys);
    free(values);
    return visited;
}
