#include "kernels.h"

KERNEL void path_starts(const i64 *order, i64 order_n, const i64 *pointer, const i64 *head, const double *duration,
                        double *start) {
    for (i64 i = 0; i < order_n; i++) {
        i64 v = order[i];
        double end = start[v] + duration[v];
        for (i64 k = pointer[v]; k < pointer[v + 1]; k++)
            if (end > start[head[k]]) start[head[k]] = end;
    }
}
