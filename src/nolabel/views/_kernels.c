/* The views on a CPU: read, resize, jitter, grey and blur one image after another, each while it lies in cache.

   Every stage equals its form in geometry.py, colour.py and filters.py up to rounding. Images are planes of floats
   between the stages; loops are written so that compilers vectorise them (no calls, no branches inside). */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE, OPERATIONS };
enum { OK, NO_MEMORY, OUTSIDE };
enum { BLOCK = 1024 }; /* pixels that go through all colour operations together: 12 KB, they stay in level 1 */

/* How one axis of every image is read; see Axis in _resample.py. */
struct axis {
    const int64_t *start, *length, *first;
    const float *scale;
};

/* One batch. Field for field the class Task of _kernels.py. A stage whose first pointer is NULL is left out. */
struct task {
    const uint8_t *pixels; /* packed images, or NULL: then `images` is read */
    int64_t pixel_bytes;
    const int64_t *offsets, *heights, *widths;
    struct axis rows, columns;
    const uint8_t *flip;
    const float *images; /* (B, 3, height, width) */
    const uint8_t *jitter;
    const float *brightness, *shift, *contrast, *saturation, *hue; /* (B,) */
    const int64_t *order;                                          /* (B, 4) */
    const uint8_t *grey;
    const uint8_t *blur;
    const float *taps; /* (B, 2 * radius + 1) */
    int64_t radius;
    int64_t height, width; /* of the result */
    int64_t channels_last;
    int64_t cubic; /* the filter of both axes: Keys' cubic, else the triangle */
    float *out; /* (B, 3, height, width) or, channels last, (B, height, width, 3) */
};

static float clip(float x) {
    x = x > 0.0f ? x : 0.0f;
    return x < 1.0f ? x : 1.0f;
}

static float magnitude(float x) { return x < 0.0f ? -x : x; }

static float luma(float r, float g, float b) { return 0.2989f * r + 0.587f * g + 0.114f * b; }

static int64_t at_least(int64_t x, int64_t low) { return x > low ? x : low; }

static int64_t at_most(int64_t x, int64_t high) { return x < high ? x : high; }

/* out[x] = sum over k of weights[k] * sources[k][x]; accumulators stay in registers; `out` is no source. */
static void weighted_sum(float *out, const float *const *sources, const float *weights, int64_t count, int64_t n) {
    int64_t x = 0;
    for (; x + 32 <= n; x += 32) {
        v8 a = {0}, b = {0}, c = {0}, d = {0};
        for (int64_t k = 0; k < count; k++) {
            const v8 *source = (const v8 *)(sources[k] + x);
            float w = weights[k];
            a += w * source[0];
            b += w * source[1];
            c += w * source[2];
            d += w * source[3];
        }
        v8 *to = (v8 *)(out + x);
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (; n >= 8 && x < n; x += 8) {
        if (x > n - 8) x = n - 8; /* the last eight, some of them for the second time */
        v8 sum = {0};
        for (int64_t k = 0; k < count; k++) sum += weights[k] * *(const v8 *)(sources[k] + x);
        *(v8 *)(out + x) = sum;
    }
    for (; x < n; x++) {
        float sum = 0.0f;
        for (int64_t k = 0; k < count; k++) sum += weights[k] * sources[k][x];
        out[x] = sum;
    }
}

/* ---- resize ------------------------------------------------------------------------------------------------- */

/* Filter of one axis: output i is the sum over k < count of weight[i * count + k] * source[low[i] + k].
   `count` is one number for the whole axis, so that inner loops have no surprises; spare taps weigh 0. */
struct filter {
    int64_t *low;
    float *weight;
    int64_t count;
};

static float support_of(float scale, int cubic) { return (cubic ? 2.0f : 1.0f) * (scale > 1.0f ? scale : 1.0f); }

static int64_t most_taps(float scale, int64_t length, int cubic) {
    return at_most(2 * (int64_t)support_of(scale, cubic) + 3, length);
}

/* Weight of a pixel at this distance, which is below the filter's reach of 2 or 1. */
static float weight_at(float x, int cubic) {
    if (!cubic) return 1.0f - x;
    return x < 1.0f ? (1.5f * x - 2.5f) * x * x + 1.0f : ((-0.5f * x + 2.5f) * x - 4.0f) * x + 2.0f;
}

static void make_filter(struct filter *f, const struct axis *a, int64_t b, int64_t outputs, int flip, int cubic) {
    float scale = a->scale[b];
    int64_t first = a->first[b], length = a->length[b];
    float support = support_of(scale, cubic), inverse = 1.0f / support_of(scale, 0), reach = cubic ? 2.0f : 1.0f;
    int64_t count = 0;
    for (int64_t i = 0; i < outputs; i++) {
        float centre = scale * ((float)(first + i) + 0.5f);
        int64_t low = at_least((int64_t)(centre - support + 0.5f), 0);
        count = at_least(count, at_most((int64_t)(centre + support + 0.5f), length) - low);
    }
    f->count = count;
    for (int64_t i = 0; i < outputs; i++) {
        float centre = scale * ((float)(first + i) + 0.5f), total = 0.0f;
        int64_t low = at_least((int64_t)(centre - support + 0.5f), 0);
        int64_t high = at_most((int64_t)(centre + support + 0.5f), length);
        int64_t begin = at_most(low, length - count), to = flip ? outputs - 1 - i : i;
        float *w = f->weight + to * count;
        for (int64_t k = 0; k < count; k++) {
            float distance = magnitude(((float)(begin + k) - centre + 0.5f) * inverse);
            int inside = begin + k >= low && begin + k < high && distance < reach;
            w[k] = inside ? weight_at(distance, cubic) : 0.0f;
            total += w[k];
        }
        for (int64_t k = 0; k < count; k++) w[k] /= total;
        f->low[to] = begin;
    }
}

/* Room for the reading of one image. */
struct reader {
    struct filter rows, columns;
    float *line;           /* one source row, three floats a pixel */
    float *pixels;         /* one resized row, three floats a pixel */
    float *narrow;         /* all needed rows resized, a row's three channels one after another */
    const float **sources; /* rows under the filter */
    void *memory;
};

static int open_reader(struct reader *r, const struct task *t, int64_t begin, int64_t end) {
    int64_t row_taps = 1, column_taps = 1, rows = 1, columns = 1;
    for (int64_t b = begin; b < end; b++) {
        row_taps = at_least(row_taps, most_taps(t->rows.scale[b], t->rows.length[b], t->cubic));
        column_taps = at_least(column_taps, most_taps(t->columns.scale[b], t->columns.length[b], t->cubic));
        rows = at_least(rows, t->rows.length[b]);
        columns = at_least(columns, t->columns.length[b]);
    }
    int64_t h = t->height, w = t->width;
    int64_t indices = h + w + row_taps;
    int64_t floats = h * row_taps + w * column_taps + 3 * columns + 3 * w + 3 * w * rows + 8;
    r->memory = malloc((size_t)(8 * indices + 4 * floats));
    if (!r->memory) return NO_MEMORY;
    r->rows.low = r->memory;
    r->columns.low = r->rows.low + h;
    r->sources = (const float **)(r->columns.low + w);
    r->rows.weight = (float *)(r->sources + row_taps);
    r->columns.weight = r->rows.weight + h * row_taps;
    r->line = r->columns.weight + w * column_taps;
    r->pixels = r->line + 3 * columns + 4; /* vectors of four read one float past a row's last pixel */
    r->narrow = r->pixels + 3 * w + 4;
    return OK;
}

static int inside(const struct axis *a, int64_t b, int64_t side) {
    return a->start[b] >= 0 && a->length[b] >= 1 && a->start[b] + a->length[b] <= side;
}

/* pixels[3 * x ...] = the filtered row; inlined with a constant `count`, so that the inner loop disappears. */
static inline void filter_row(const struct filter *f, const float *line, float *pixels, int64_t width, int64_t count) {
    for (int64_t x = 0; x < width; x++) {
        const float *source = line + 3 * f->low[x], *w = f->weight + x * count;
        v4 sum = w[0] * *(const v4 *)source;
        for (int64_t k = 1; k < count; k++) sum += w[k] * *(const v4 *)(source + 3 * k);
        *(v4 *)(pixels + 3 * x) = sum; /* the fourth number is written over by the next pixel */
    }
}

/* to[c * width + x] = the filtered row. */
static void narrow_row(const struct filter *f, const float *line, float *pixels, float *to, int64_t width) {
    if (f->count == 2) filter_row(f, line, pixels, width, 2);
    else if (f->count == 3) filter_row(f, line, pixels, width, 3);
    else if (f->count == 4) filter_row(f, line, pixels, width, 4);
    else filter_row(f, line, pixels, width, f->count);
    float *restrict r = to, *restrict g = to + width, *restrict b = to + 2 * width;
    for (int64_t x = 0; x < width; x++) {
        r[x] = pixels[3 * x];
        g[x] = pixels[3 * x + 1];
        b[x] = pixels[3 * x + 2];
    }
}

/* Columns first, then rows, from packed bytes to planes. */
static int read_image(const struct task *t, struct reader *r, int64_t b, float *planes) {
    int64_t h = t->height, w = t->width, stride = 3 * t->widths[b];
    int64_t offset = t->offsets[b];
    if (!inside(&t->rows, b, t->heights[b]) || !inside(&t->columns, b, t->widths[b])) return OUTSIDE;
    if (offset < 0 || offset + stride * t->heights[b] > t->pixel_bytes) return OUTSIDE;
    int flip = t->flip && t->flip[b];
    make_filter(&r->rows, &t->rows, b, h, 0, t->cubic);
    make_filter(&r->columns, &t->columns, b, w, flip, t->cubic);
    int64_t top = r->rows.low[0], bottom = r->rows.low[h - 1] + r->rows.count;
    int64_t left = r->columns.low[flip ? w - 1 : 0], right = r->columns.low[flip ? 0 : w - 1] + r->columns.count;
    for (int64_t x = 0; x < w; x++) r->columns.low[x] -= left;
    for (int64_t y = top; y < bottom; y++) {
        const uint8_t *source = t->pixels + offset + (t->rows.start[b] + y) * stride + 3 * (t->columns.start[b] + left);
        for (int64_t i = 0; i < 3 * (right - left); i++) r->line[i] = (float)source[i] / 255.0f;
        narrow_row(&r->columns, r->line, r->pixels, r->narrow + 3 * w * (y - top), w);
    }
    for (int64_t y = 0; y < h; y++) {
        const float *weight = r->rows.weight + y * r->rows.count;
        for (int c = 0; c < 3; c++) {
            for (int64_t k = 0; k < r->rows.count; k++)
                r->sources[k] = r->narrow + 3 * w * (r->rows.low[y] - top + k) + c * w;
            weighted_sum(planes + (c * h + y) * w, r->sources, weight, r->rows.count, w);
        }
    }
    for (int64_t i = 0; t->cubic && i < 3 * h * w; i++) planes[i] = clip(planes[i]); /* cubics overshoot */
    return OK;
}

/* ---- colour ------------------------------------------------------------------------------------------------- */

static void change_brightness(float *restrict r, float *restrict g, float *restrict b, int64_t n, float factor,
                              float shift) {
    for (int64_t i = 0; i < n; i++) {
        r[i] = clip(factor * r[i] + shift);
        g[i] = clip(factor * g[i] + shift);
        b[i] = clip(factor * b[i] + shift);
    }
}

static void change_saturation(float *restrict r, float *restrict g, float *restrict b, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) {
        float other = (1.0f - factor) * luma(r[i], g[i], b[i]);
        r[i] = clip(factor * r[i] + other);
        g[i] = clip(factor * g[i] + other);
        b[i] = clip(factor * b[i] + other);
    }
}

static void change_hue(float *restrict r, float *restrict g, float *restrict b, int64_t n, float shift) {
    float turn = 6.0f * shift;
    for (int64_t i = 0; i < n; i++) {
        float red = r[i], green = g[i], blue = b[i];
        float high = red > green ? red : green, low = red < green ? red : green;
        high = high > blue ? high : blue;
        low = low < blue ? low : blue;
        float spread = high - low;
        float numerator = high == red ? green - blue : high == green ? blue - red : red - green;
        float base = high == red ? turn : high == green ? turn + 2.0f : turn + 4.0f;
        float angle = base + numerator / (spread == 0.0f ? 1.0f : spread);
        angle += angle < 0.0f ? 6.0f : 0.0f;
        angle -= angle >= 6.0f ? 6.0f : 0.0f;
        r[i] = low + spread * clip(magnitude(angle - 3.0f) - 1.0f);
        g[i] = low + spread * clip(2.0f - magnitude(angle - 2.0f));
        b[i] = low + spread * clip(2.0f - magnitude(angle - 4.0f));
    }
}

static void make_grey(float *restrict r, float *restrict g, float *restrict b, int64_t n) {
    for (int64_t i = 0; i < n; i++) r[i] = g[i] = b[i] = luma(r[i], g[i], b[i]);
}

static double sum_luma(const float *r, const float *g, const float *b, int64_t n) {
    v8 sums = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        sums += 0.2989f * *(const v8 *)(r + i) + 0.587f * *(const v8 *)(g + i) + 0.114f * *(const v8 *)(b + i);
    double total = 0.0;
    for (int k = 0; k < 8; k++) total += sums[k];
    for (; i < n; i++) total += luma(r[i], g[i], b[i]);
    return total;
}

/* Jitter and grey of one image. Contrast needs the mean of the whole image as the operations before it leave it,
   so the blocks pass twice: up to contrast, and from it on. */
static void recolour(const struct task *t, int64_t image, float *planes) {
    int64_t n = t->height * t->width;
    int grey = t->grey && t->grey[image];
    int jitter = t->jitter && t->jitter[image];
    const int64_t *order = jitter ? t->order + OPERATIONS * image : NULL;
    int before = 0;
    float offset = 0.0f, factor = jitter ? t->contrast[image] : 1.0f;
    double total = 0.0;
    while (jitter && before < OPERATIONS - 1 && order[before] != CONTRAST) before++;
    for (int second = !jitter; second <= (jitter || grey); second++) {
        int from = second ? before : 0, to = second ? OPERATIONS : before;
        for (int64_t start = 0; start < n; start += BLOCK) {
            float *r = planes + start, *g = r + n, *b = g + n;
            int64_t count = at_most(n - start, BLOCK);
            for (int i = from; jitter && i < to; i++) {
                if (order[i] == BRIGHTNESS) change_brightness(r, g, b, count, t->brightness[image], t->shift[image]);
                if (order[i] == CONTRAST) change_brightness(r, g, b, count, factor, offset);
                if (order[i] == SATURATION) change_saturation(r, g, b, count, t->saturation[image]);
                if (order[i] == HUE) change_hue(r, g, b, count, t->hue[image]);
            }
            if (!second) total += sum_luma(r, g, b, count);
            if (second && grey) make_grey(r, g, b, count);
        }
        offset = (1.0f - factor) * (float)(total / (double)n);
    }
}

/* ---- blur --------------------------------------------------------------------------------------------------- */

static int64_t reflect(int64_t i, int64_t n) { return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i; }

/* One plane blurred in place, borders mirrored. `room` holds height * width + width + 2 * radius floats. */
static void blur_plane(float *plane, int64_t height, int64_t width, const float *taps, int64_t radius, float *room,
                       const float **sources) {
    float *line = room + height * width;
    int64_t count = 2 * radius + 1;
    for (int64_t y = 0; y < height; y++) {
        const float *row = plane + y * width;
        memcpy(line + radius, row, (size_t)width * sizeof(float));
        for (int64_t k = 1; k <= radius; k++) {
            line[radius - k] = row[reflect(-k, width)];
            line[radius + width - 1 + k] = row[reflect(width - 1 + k, width)];
        }
        for (int64_t k = 0; k < count; k++) sources[k] = line + k;
        weighted_sum(room + y * width, sources, taps, count, width);
    }
    for (int64_t y = 0; y < height; y++) {
        for (int64_t k = 0; k < count; k++) sources[k] = room + reflect(y + k - radius, height) * width;
        weighted_sum(plane + y * width, sources, taps, count, width);
    }
}

/* ---- the whole view ----------------------------------------------------------------------------------------- */

static int view_image(const struct task *t, struct reader *reader, int64_t b, float *planes, float *room,
                      const float **sources) {
    int64_t n = t->height * t->width;
    float *out = t->out + 3 * n * b;
    float *work = t->channels_last ? planes : out;
    if (t->pixels) {
        int status = read_image(t, reader, b, work);
        if (status != OK) return status;
    } else {
        memcpy(work, t->images + 3 * n * b, (size_t)(3 * n) * sizeof(float));
    }
    recolour(t, b, work);
    if (t->blur && t->blur[b])
        for (int c = 0; c < 3; c++)
            blur_plane(work + c * n, t->height, t->width, t->taps + b * (2 * t->radius + 1), t->radius, room, sources);
    if (t->channels_last) {
        const float *restrict red = work, *restrict green = work + n, *restrict blue = work + 2 * n;
        for (int64_t i = 0; i < n; i++) {
            out[3 * i] = red[i];
            out[3 * i + 1] = green[i];
            out[3 * i + 2] = blue[i];
        }
    }
    return OK;
}

/* Images begin ... end - 1 of the batch: 0, or what went wrong. */
int nolabel_views(const struct task *t, int64_t begin, int64_t end) {
    int64_t n = t->height * t->width, line = t->width + 2 * t->radius, taps = 2 * t->radius + 1;
    struct reader reader = {0};
    int status = t->pixels ? open_reader(&reader, t, begin, end) : OK;
    float *planes = malloc((size_t)(4 * n + line) * sizeof(float));
    const float **sources = malloc((size_t)taps * sizeof(float *));
    if (!planes || !sources) status = NO_MEMORY;
    for (int64_t b = begin; b < end && status == OK; b++)
        status = view_image(t, &reader, b, planes, planes + 3 * n, sources);
    free(planes);
    free(sources);
    free(reader.memory);
    return status;
}
