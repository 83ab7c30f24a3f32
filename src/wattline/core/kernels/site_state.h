/* State of the site simulator: the named tuples of site/simulate/_site_state.py, where each field is explained.
 *
 * N nodes in G groups on P parts of a power tree, T tasks, Q pools of parts.
 */
#ifndef WATTLINE_SITE_STATE_H
#define WATTLINE_SITE_STATE_H

#include "kernels.h"

enum { UP, FAILED, DARK };
enum { CAPPED, BROKEN, WAITING, TRIPPED };
enum { FEED, PEAK, LIMIT, DONE, WANTED, COOLING };

/* Entry (i, j) of an array of two axes; its length along the second is a field beside it. */
#define AT2(a, i, j) a[(i) * a##_m + (j)]

typedef struct {
    const i64 *place, *group, *gang, *first, *curve;
    i64 place_n;
    const double *power, *work, *idle, *weight, *load, *swing, *quiet, *leave, *heat;
    i64 idle_n, leave_m;
    const i64 *tasks, *arrive;
    const double *size;
    const i64 *parent, *order;
    i64 parent_n, order_n;
    const double *factor, *standing, *rating;
    const i64 *pool, *member;
    double dt;
    i64 seed;
    double fixed, share, cooled, warmed, supply, room, hottest;
    double failing, repair, restart, rework, slowing, slowed, pace;
    double k, alpha, reset, reclose;
    const double *knee, *hold;
    i64 knee_n;
} Plant;

typedef struct {
    const double *cap;
    i64 *state;
    double *back, *fail, *turn, *pace;
    i64 *phase, *beat;
    double *slowest;
    i64 slowest_n;
    i64 *task;
    double *left;
    i64 *again, *again_count, *free, *free_count, *listed, *head, *draws;
    double *allowed, *power, *temperature, *below, *flow, *load, *off, *heat, *removed, *asked;
} Live;

typedef struct {
    double *done, *wanted, *lost, *joules, *over;
    i64 lost_m, over_m;
    i64 *trips, *events;
    double *waited, *feed, *history;
    i64 history_m, every;
    double *flows, *loads;
    i64 flows_n, flows_m, loads_m;
} Tally;

#endif
