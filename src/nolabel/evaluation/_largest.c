/* The k largest similarities of every query, kept while the blocks of a bank go by, each block while it lies in cache. */

#include <stdint.h>

enum { CHUNK = 32 }; /* similarities that are compared with the threshold together, without a branch */

/* Moves the k largest of n values to the front, their places with them (Hoare 1961, FIND); gives the smallest of them. */
static float select(float *values, int32_t *places, int64_t n, int64_t k) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        float pivot = values[(low + high) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot) i++;
            while (values[j] < pivot) j--;
            if (i > j) break;
            float value = values[i];
            int32_t place = places[i];
            values[i] = values[j], places[i] = places[j];
            values[j] = value, places[j] = place;
            i++, j--;
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else break;
    }
    return values[k - 1];
}

/* Block (n, width): similarities of n queries with the rows of the bank from `first` on.

   Of each query, `held` values of at most `capacity` > k are kept; what lies above its threshold joins them, and when
   they are full, the k largest stay and the smallest of these is the new threshold. */
void nolabel_keep(const float *block, int64_t n, int64_t width, int64_t first, int64_t k, int64_t capacity,
                  float *values, int32_t *places, int64_t *held, float *threshold) {
    for (int64_t query = 0; query < n; query++) {
        const float *row = block + query * width;
        float *own = values + query * capacity, least = threshold[query];
        int32_t *where = places + query * capacity;
        int64_t count = held[query];
        for (int64_t start = 0; start < width; start += CHUNK) {
            int64_t end = start + CHUNK < width ? start + CHUNK : width;
            int above = end - start < CHUNK;
            if (!above)
                for (int64_t x = 0; x < CHUNK; x++) above += row[start + x] > least;
            if (!above) continue;
            for (int64_t x = start; x < end; x++) {
                if (!(row[x] > least)) continue;
                own[count] = row[x], where[count] = (int32_t)(first + x);
                if (++count == capacity) least = select(own, where, count, k), count = k;
            }
        }
        held[query] = count, threshold[query] = least;
    }
}
