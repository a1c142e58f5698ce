#define _GNU_SOURCE         /* RTLD_DEFAULT */
#include "kernels/cpu/gemm.h"

#include <dlfcn.h>
#include <dnnl.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct gemm {
    dnnl_engine_t engine;
    int n_thread;
    struct gemm_shape *shapes;
};

struct product {               /* for one number of rows */
    dnnl_primitive_t run;
    dnnl_memory_desc_t x, w, c, scratch;
    bool row_by_row;           /* a row's sums do not depend on the number of rows */
};

/* What a thread hands to the library: the memory objects whose addresses change from call to call. */
struct lane { dnnl_stream_t stream; dnnl_memory_t tile, x[GEMM_PIECES], c[GEMM_PIECES], scratch[GEMM_PIECES]; };

static void need(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success)
        die("oneDNN cannot %s (status %d): is libdnnl 2.6 or a later 2.x installed?", what, (int)status);
}

/* Debian's oneDNN brings OpenMP along and would start a team for each of our threads; the setting is per thread.
 * A build of the library without OpenMP has no such function and needs no word. */
static void stay_alone(void)
{
    static _Thread_local bool said;
    if (said)
        return;
    said = true;
    void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    void (*set_num_threads)(int);
    memcpy(&set_num_threads, &symbol, sizeof set_num_threads);
    if (symbol)
        set_num_threads(1);
}

/* oneDNN 2.6 builds its objects in what posix_memalign gives, even if that is nothing, and throws through us what C++ throws where
 * there is no memory.  So neither comes back without: this function stands before libc's, that one is what C++ calls before it throws. */
int posix_memalign(void **p, size_t align, size_t size)
{
    *p = aligned_alloc(align, (size + align - 1) / align * align);
    if (!*p)
        die("out of memory: oneDNN asked for %zu bytes", size);
    return 0;
}

static void no_memory(void)
{
    die("out of memory: oneDNN asked for more");
}

static void die_without_memory(void)
{
    void *symbol = dlsym(RTLD_DEFAULT, "_ZSt15set_new_handlerPFvvE");      /* std::set_new_handler */
    void (*(*set_new_handler)(void (*handler)(void)))(void);
    memcpy(&set_new_handler, &symbol, sizeof set_new_handler);
    if (symbol)
        set_new_handler(no_memory);
}

struct gemm *gemm_open(int n_thread)
{
    struct gemm *g = mem_alloc(sizeof *g);
    die_without_memory();
    stay_alone();
    g->n_thread = n_thread;
    need(dnnl_engine_create(&g->engine, dnnl_cpu, 0), "open the CPU");
    return g;
}

bool gemm_has(enum dtype dtype)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();      /* values are sets of bits */
    return dtype == DTYPE_F32 || (dtype == DTYPE_I8 && (isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni);
}

static dnnl_memory_desc_t matrix(uint32_t rows, uint32_t cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t d;
    dnnl_dims_t dims = { rows, cols };
    need(dnnl_memory_desc_init_by_tag(&d, 2, dims, type, tag), "describe a matrix");
    return d;
}

/* The library's batch-reduce kernels add up each row alike.  The older ones (AVX2 and before) do it for 4, 16 and
 * 64 rows, not for 1 (a matrix-vector product) and where rows in pairs are left over: 2, 8, 32. */
static bool is_row_by_row(dnnl_primitive_desc_t desc)
{
    const char *kernel;
    need(dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &kernel), "name its kernel");
    return !strncmp(kernel, "brg", 3);
}

/* The product of n_row rows.  w says how the weights lie; NULL: as this product likes them best. */
static struct product make_product(struct gemm *g, const struct gemm_shape *s, uint32_t n_row, const dnnl_memory_desc_t *w)
{
    bool i8 = s->dtype == DTYPE_I8;
    dnnl_data_type_t of_x = i8 ? dnnl_u8 : dnnl_f32;
    struct product p = {
        .x = matrix(n_row, s->n_in, of_x, dnnl_ab),
        .w = w ? *w : matrix(s->n_in, s->n_col, i8 ? dnnl_s8 : of_x, dnnl_format_tag_any),
        .c = matrix(n_row, s->n_col, i8 ? dnnl_s32 : dnnl_f32, dnnl_ab),
    };
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t desc;
    need(dnnl_matmul_desc_init(&op, &p.x, &p.w, NULL, &p.c), "describe a product");
    need(dnnl_primitive_attr_create(&attr), "make attributes");
    need(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), "take our scratchpad");
    need(dnnl_primitive_desc_create(&desc, &op, attr, g->engine, NULL), "plan a product");
    need(dnnl_primitive_create(&p.run, desc), "make a product");
    p.w = *dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    p.row_by_row = is_row_by_row(desc);
    p.scratch = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    dnnl_primitive_desc_destroy(desc);
    dnnl_primitive_attr_destroy(attr);
    return p;
}

/* A blocked layout is a sum of one term a dimension: whole blocks by the stride, then the place within each
 * inner block, the last block being the innermost. */
static uint32_t *places(const dnnl_memory_desc_t *layout, int dim, uint32_t n)
{
    const dnnl_blocking_desc_t *b = &layout->format_desc.blocking;
    uint32_t *at = mem_array(n, sizeof *at);
    for (uint32_t i = 0; i < n; i++) {
        dnnl_dim_t rest = i, step = 1, sum = 0;
        for (int k = b->inner_nblks - 1; k >= 0; k--) {
            if (b->inner_idxs[k] == dim) {
                sum += rest % b->inner_blks[k] * step;
                rest /= b->inner_blks[k];
            }
            step *= b->inner_blks[k];
        }
        at[i] = (uint32_t)(sum + rest * b->strides[dim]);
    }
    return at;
}

static dnnl_memory_t memory(struct gemm *g, const dnnl_memory_desc_t *desc, void *data)
{
    dnnl_memory_t m;
    need(dnnl_memory_create(&m, desc, g->engine, data), "make a memory object");
    return m;
}

static struct lane make_lane(struct gemm *g, const struct product *products)
{
    struct lane l;
    need(dnnl_stream_create(&l.stream, g->engine, dnnl_stream_default_flags), "open a stream");
    l.tile = memory(g, &products[0].w, DNNL_MEMORY_NONE);
    for (int i = 0; i < GEMM_PIECES; i++) {
        l.x[i] = memory(g, &products[i].x, DNNL_MEMORY_NONE);
        l.c[i] = memory(g, &products[i].c, DNNL_MEMORY_NONE);
        l.scratch[i] = memory(g, &products[i].scratch, DNNL_MEMORY_ALLOCATE);
    }
    return l;
}

static struct gemm_shape *make_shape(struct gemm *g, enum dtype dtype, uint32_t n_in, uint32_t n_col)
{
    struct gemm_shape *s = mem_alloc(sizeof *s);
    *s = (struct gemm_shape){ .dtype = dtype, .n_in = n_in, .n_col = n_col, .row_unit = 1, .next = g->shapes };
    s->products = mem_array(GEMM_PIECES, sizeof *s->products);
    const dnnl_memory_desc_t *layout = NULL;
    for (int i = GEMM_PIECES - 1; i >= 0; i--) {    /* most rows first: their layout is the one that must be fast */
        s->products[i] = make_product(g, s, 1u << i, layout);
        layout = &s->products[i].w;
        if (!s->products[i].row_by_row)
            s->row_unit = 4;
    }
    CHECK(layout->format_kind == dnnl_blocked && !layout->extra.flags);
    s->size = dnnl_memory_desc_get_size(layout);
    s->in_at = places(layout, 0, n_in);
    s->col_at = places(layout, 1, n_col);
    s->lanes = mem_array((size_t)g->n_thread, sizeof *s->lanes);
    for (int t = 0; t < g->n_thread; t++)
        s->lanes[t] = make_lane(g, s->products);
    g->shapes = s;
    return s;
}

const struct gemm_shape *gemm_shape(struct gemm *g, enum dtype dtype, uint32_t n_in, uint32_t n_col)
{
    CHECK(n_in && n_col && n_col <= GEMM_TILE && n_col % GEMM_TILE_UNIT == 0 && gemm_has(dtype));
    stay_alone();
    for (struct gemm_shape *s = g->shapes; s; s = s->next)
        if (s->dtype == dtype && s->n_in == n_in && s->n_col == n_col)
            return s;
    return make_shape(g, dtype, n_in, n_col);
}

static void free_shape(struct gemm_shape *s, int n_thread)
{
    for (int t = 0; t < n_thread; t++) {
        const struct lane *l = &s->lanes[t];
        for (int i = 0; i < GEMM_PIECES; i++) {
            dnnl_memory_destroy(l->x[i]);
            dnnl_memory_destroy(l->c[i]);
            dnnl_memory_destroy(l->scratch[i]);
        }
        dnnl_memory_destroy(l->tile);
        dnnl_stream_destroy(l->stream);
    }
    for (int i = 0; i < GEMM_PIECES; i++)
        dnnl_primitive_destroy(s->products[i].run);
    free(s->products);
    free(s->lanes);
    free(s->in_at);
    free(s->col_at);
    free(s);
}

void gemm_close(struct gemm *g)
{
    if (!g)
        return;
    while (g->shapes) {
        struct gemm_shape *s = g->shapes;
        g->shapes = s->next;
        free_shape(s, g->n_thread);
    }
    dnnl_engine_destroy(g->engine);
    free(g);
}

struct dnnl_memory *gemm_tile_open(struct gemm *g, const struct gemm_shape *s, void *packed)
{
    return memory(g, &s->products[0].w, packed);
}

void gemm_tile_close(struct dnnl_memory *tile)
{
    dnnl_memory_destroy(tile);
}

struct dnnl_memory *gemm_tile_at(const struct gemm_shape *s, int thread, void *packed)
{
    dnnl_memory_t tile = s->lanes[thread].tile;
    need(dnnl_memory_set_data_handle(tile, packed), "point at a tile");
    return tile;
}

uint32_t gemm_piece(const struct gemm_shape *s, uint32_t n_row)
{
    uint32_t piece = GEMM_ROWS;
    while (piece > n_row)
        piece /= s->row_unit == 1 ? 2 : 4;
    return piece;
}

void gemm_run(const struct gemm_shape *s, int thread, uint32_t n_row, const void *x, struct dnnl_memory *tile, void *c)
{
    int i = __builtin_ctz(n_row);
    const struct lane *l = &s->lanes[thread];
    stay_alone();
    need(dnnl_memory_set_data_handle(l->x[i], (void *)x), "point at x");
    need(dnnl_memory_set_data_handle(l->c[i], c), "point at c");
    dnnl_exec_arg_t args[] = {
        { DNNL_ARG_SRC, l->x[i] }, { DNNL_ARG_WEIGHTS, tile }, { DNNL_ARG_DST, l->c[i] },
        { DNNL_ARG_SCRATCHPAD, l->scratch[i] },
    };
    need(dnnl_primitive_execute(s->products[i].run, l->stream, 4, args), "multiply");
}
