/* State of the serving simulator: the named tuples of serving/simulate/_state.py, where each field is explained.
 *
 * R replicas with B slots, n requests, P pools.
 */
#ifndef WATTLINE_SERVING_STATE_H
#define WATTLINE_SERVING_STATE_H

#include "kernels.h"

enum { PREFILL, DECODE, IDLE, COLD, TRANSFER };
enum { OFF, STARTING, ON, DRAINING };
enum { VLLM, SGLANG, NO_EVICT, GREEDY };
enum { ROUND_ROBIN, LEAST_LOADED, PREFIX, PACK };
enum { CORNERS = 12 };
/* Columns that are summed side by side. */
enum { SIDE = 16 };
/* Bins of the time between tokens, as in outcome.py. */
#define PER_DECADE 400.0
#define SMALLEST (-5.0)

/* SGLang's estimate of outputs to come, as in _core.py. */
#define CLIP 4096
#define RATIO 0.7
#define LEAST (0.7 * 0.14)
#define DECAY 600.0
#define RETRACT 20

/* Entry (i, j) of an array of two axes, (i, j, c) of one of three; its lengths are fields beside it. */
#define AT2(a, i, j) a[(i) * a##_m + (j)]
#define AT3(a, i, j, c) a[((i) * a##_m + (j)) * a##_k + (c)]

typedef struct {
    const double *cells;
    i64 cells_m, cells_k;
    const i64 *start;
    i64 start_m;
    const double *nodes;
    const i64 *axis;
    i64 axis_m, axis_k;
    const double *host, *scalar;
    i64 host_m, scalar_m, each, tile, fine, coarse;
} Prices;

typedef struct {
    const i64 *pool, *chunk, *batch, *block, *blocks, *reserve, *longest, *scheduler;
    i64 pool_n;
    const double *offload, *idle, *off, *start_time, *start_power;
    i64 route, seed;
    bool prefill_only;
    i64 page;
    double patience;
} Rules;

typedef struct {
    const double *arrival;
    i64 arrival_n;
    const i64 *prompt, *output, *first, *page, *urgency;
    i64 *brought;
} Work;

typedef struct {
    const double *mixed, *alone;
    const i64 *cap;
} Knobs;

typedef struct {
    i64 *state;
    double *since, *ends, *ready, *woken;
    i64 *running, *used, *head, *tail, *queued;
    i64 *slot, *have, *goal, *held, *take, *turn;
    i64 slot_m, have_m, goal_m, held_m, take_m, turn_m;
    double *swap, *ratio;
    i64 *popped, *pushed, *kept;
    i64 kept_m;
    i64 *cursor;
    double *busy;
    i64 *steps, *tokens, *arrived;
} Live;

typedef struct {
    i64 *replica;
    double *begun, *first, *last, *end;
    i64 *generated, *preempted, *cached, *gone;
    double *prefill, *decode;
    i64 *next;
    double *parts;
    i64 parts_m;
    double *idle, *cold, *awake;
    i64 *steps;
    double *busy, *gaps;
    i64 gaps_n;
    double *power;
    i64 power_n, power_m;
    double *width, *recomputed, *levels;
    i64 levels_m;
} Out;

/* Rows of cells and their weights, whose sum is a step. */
typedef struct {
    i64 row[CORNERS];
    double weight[CORNERS];
} Corners;

#endif
