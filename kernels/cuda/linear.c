/* linear.c - products by cuBLASLt, which is opened at run time: linked, it would be loaded at every start of the program,
 * and where it is missing the program would not start.
 *
 * For cuBLASLt, whose matrices lie by columns, our y [n, n_out] is D [n_out, n] = op(A) B with A = w [n_in, n_out] transposed
 * and B = x [n_in, n]: everything is taken as it lies.  The residual is C with beta 1.  The bias, one number a row of D, is
 * added in the epilogue, which wants it in D's type: for y in bf16 it is rounded first.
 *
 * Where w is e4m3 with a scale a row, x is quantised likewise first, and the product scales element (i, j) of D by that of row
 * i of A and column j of B.  That mode is known by devices of compute capability 9.0 alone, and its bias is bf16 whatever D is
 * (cuBLAS 13.1 documentation, "Outer Vector Scaling for FP8 Data Types" and "cublasLtMatmul").
 *
 * Which algorithm the library shall take is kept as a plan, by shape, types and the number of rows rounded up: what its
 * heuristic says, or while tuning the fastest of what it says, tried on the product at hand.  Descriptors are made once and
 * filled in for each call, so that nothing is allocated after opening.
 *
 * Sameness: an algorithm goes over the terms of a row's sums in an order that its tiles alone decide, unless it splits them.
 * So a deterministic device has one plan for all numbers of rows, with an algorithm that does not. */
#include <cublasLt.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/plans.h"

#define WORKSPACE ((size_t)32 << 20)
#define ALIGN 16               /* of the address of every matrix, at least */
#define SAME_ROWS 256u         /* rows of the plan for all numbers of rows */

enum { N_TRY = 8, N_ROUND = 4, N_RUN = 3 };    /* algorithms to tune with, rounds of each, runs of a round */

#define FUNCTIONS(X)                                                                                                            \
    X(Create) X(Destroy) X(GetStatusString) X(MatmulDescCreate) X(MatmulDescDestroy) X(MatmulDescSetAttribute)                  \
    X(MatrixLayoutCreate) X(MatrixLayoutDestroy) X(MatrixLayoutSetAttribute) X(MatmulPreferenceCreate)                          \
    X(MatmulPreferenceDestroy) X(MatmulPreferenceSetAttribute) X(MatmulAlgoGetHeuristic) X(MatmulAlgoCheck) X(Matmul)           \
    X(GetVersion)

enum { Y_BF16 = 1, WITH_BIAS = 2, E4M3 = 4 };  /* kind of a plan's key */

struct cublaslt {
#define MEMBER(f) __typeof__(&cublasLt##f) f;
    FUNCTIONS(MEMBER)
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc, desc_e4m3;
    cublasLtMatrixLayout_t w, x, y;            /* y: of C and D */
    cublasLtMatmulPreference_t preference;
    void *workspace;
    cudaEvent_t from, to;
    bool tuning, new_plans;                    /* new_plans: some are not in the file */
    struct plans plans;
};

/* ---- opening ---- */

static int load(struct cublaslt *lt)
{
    char name[32];
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUDART_VERSION / 1000);
    void *library = cuda_library(name);
    if (!library)
        return -1;
#define FIND(f)                                                         \
    {                                                                   \
        void *p = dlsym(library, "cublasLt" #f);                    \
        if (!p)                                                         \
            return err_set("%s has no cublasLt%s", name, #f);           \
        memcpy(&lt->f, &p, sizeof p);                                   \
    }
    FUNCTIONS(FIND)
    return 0;
}

static cublasStatus_t set_preference(struct cublaslt *lt, cublasLtMatmulPreferenceAttributes_t a, const void *value, size_t size)
{
    return lt->MatmulPreferenceSetAttribute(lt->preference, a, value, size);
}

static cublasStatus_t make_preference(struct cublaslt *lt)
{
    static const cublasLtMatmulPreferenceAttributes_t align[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    };
    uint64_t workspace = WORKSPACE;
    uint32_t bytes = ALIGN;
    cublasStatus_t s = lt->MatmulPreferenceCreate(&lt->preference);
    if (!s)
        s = set_preference(lt, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (size_t i = 0; i < sizeof align / sizeof *align && !s; i++)
        s = set_preference(lt, align[i], &bytes, sizeof bytes);
    return s;
}

static cublasStatus_t make_desc(struct cublaslt *lt, cublasLtMatmulDesc_t *desc)
{
    int32_t transposed = CUBLAS_OP_T;
    cublasStatus_t s = lt->MatmulDescCreate(desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    return s ? s : lt->MatmulDescSetAttribute(*desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
}

static cublasStatus_t make_descs(struct cublaslt *lt)
{
    int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    cublasStatus_t s = make_desc(lt, &lt->desc);
    if (!s)
        s = make_desc(lt, &lt->desc_e4m3);
    if (!s)
        s = lt->MatmulDescSetAttribute(lt->desc_e4m3, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode);
    return s ? s : lt->MatmulDescSetAttribute(lt->desc_e4m3, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode);
}

static cublasStatus_t make_parts(struct cublaslt *lt)
{
    cublasStatus_t s = lt->Create(&lt->handle);
    if (!s)
        s = make_descs(lt);
    cublasLtMatrixLayout_t *const layouts[] = { &lt->w, &lt->x, &lt->y };
    for (int i = 0; i < 3 && !s; i++)
        s = lt->MatrixLayoutCreate(layouts[i], CUDA_R_16BF, 1, 1, 1);
    return s ? s : make_preference(lt);
}

int cublaslt_open(struct cuda_device *d)
{
    struct cublaslt *lt = d->lt = mem_alloc(sizeof *lt);
    if (load(lt))
        return -1;
    cublasStatus_t s = make_parts(lt);
    if (s)
        return err_set("cuBLASLt: %s", lt->GetStatusString(s));
    cudaError_t e = cudaMalloc(&lt->workspace, WORKSPACE);
    if (e)
        return err_set("%zu MiB for cuBLASLt: %s", WORKSPACE >> 20, cudaGetErrorString(e));
    e = cudaEventCreate(&lt->from);
    if (!e)
        e = cudaEventCreate(&lt->to);
    return e ? err_set("events for cuBLASLt: %s", cudaGetErrorString(e)) : 0;
}

void cublaslt_close(struct cuda_device *d)
{
    struct cublaslt *lt = d->lt;
    if (!lt)
        return;
    cudaFree(lt->workspace);
    if (lt->from)
        cudaEventDestroy(lt->from);
    if (lt->to)
        cudaEventDestroy(lt->to);
    if (lt->preference)
        lt->MatmulPreferenceDestroy(lt->preference);
    cublasLtMatrixLayout_t const layouts[] = { lt->w, lt->x, lt->y };
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            lt->MatrixLayoutDestroy(layouts[i]);
    if (lt->desc)
        lt->MatmulDescDestroy(lt->desc);
    if (lt->desc_e4m3)
        lt->MatmulDescDestroy(lt->desc_e4m3);
    if (lt->handle)
        lt->Destroy(lt->handle);
    free(lt);
}

/* ---- plans ---- */

static void need(const struct cuda_device *d, const struct linear *op, const char *what, cublasStatus_t s)
{
    if (s)
        die("device \"%s\": linear: %s: %s, for %u rows of %u numbers to %u; run again with --device cpu", d->base.name, what,
            d->lt->GetStatusString(s), op->x.rows, op->x.cols, op->y.cols);
}

static bool is_e4m3(const struct linear *op)
{
    return op->w->dtype == DTYPE_E4M3;
}

/* What the epilogue wants the bias to be. */
static enum dtype bias_type(const struct linear *op)
{
    return is_e4m3(op) ? DTYPE_BF16 : op->y.dtype;
}

static bool rounds_bias(const struct linear *op)
{
    return op->bias && bias_type(op) == DTYPE_BF16;
}

static cublasLtMatmulDesc_t desc_of(const struct cuda_device *d, const struct linear *op)
{
    return is_e4m3(op) ? d->lt->desc_e4m3 : d->lt->desc;
}

/* A dense matrix of [cols, rows] as we have it. */
static void describe(struct cuda_device *d, const struct linear *op, cublasLtMatrixLayout_t l, enum dtype dtype, uint64_t rows, uint64_t cols)
{
    uint32_t type = dtype == DTYPE_BF16 ? CUDA_R_16BF : dtype == DTYPE_E4M3 ? CUDA_R_8F_E4M3 : CUDA_R_32F;
    int64_t ld = (int64_t)rows;
    const struct { cublasLtMatrixLayoutAttribute_t name; const void *value; size_t size; } a[] = {
        { CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof type }, { CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, sizeof rows },
        { CUBLASLT_MATRIX_LAYOUT_COLS, &cols, sizeof cols }, { CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld },
    };
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        need(d, op, "a layout", d->lt->MatrixLayoutSetAttribute(l, a[i].name, a[i].value, a[i].size));
}

static void describe_all(struct cuda_device *d, const struct linear *op, uint32_t n)
{
    describe(d, op, d->lt->w, op->w->dtype, op->x.cols, op->y.cols);
    describe(d, op, d->lt->x, op->w->dtype, op->x.cols, n);
    describe(d, op, d->lt->y, op->y.dtype, op->y.cols, n);
}

static void describe_bias(struct cuda_device *d, const struct linear *op, const void *bias)
{
    uint32_t epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    int32_t type = bias_type(op) == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const struct { cublasLtMatmulDescAttributes_t name; const void *value; size_t size; } a[] = {
        { CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue }, { CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias },
        { CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type },
    };
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        need(d, op, "the bias", d->lt->MatmulDescSetAttribute(desc_of(d, op), a[i].name, a[i].value, a[i].size));
}

static void describe_scales(struct cuda_device *d, const struct linear *op, const float *x_scale)
{
    const struct { cublasLtMatmulDescAttributes_t name; const float *value; } a[] = {
        { CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, op->w->scale }, { CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x_scale },
    };
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        need(d, op, "the scales", d->lt->MatmulDescSetAttribute(d->lt->desc_e4m3, a[i].name, &a[i].value, sizeof a[i].value));
}

/* The layouts and the preference are those of the plan to make. */
static void describe_plan(struct cuda_device *d, const struct linear *op, const struct plan_key *key)
{
    uint32_t schemes = d->base.deterministic ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_MASK;
    describe_all(d, op, key->n);
    need(d, op, "the preference", set_preference(d->lt, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
}

/* With the layouts and the epilogue as they are described. */
static cublasStatus_t multiply(struct cuda_device *d, const struct linear *op, const void *x, const cublasLtMatmulAlgo_t *algo)
{
    struct cublaslt *lt = d->lt;
    const void *c = op->residual.data ? op->residual.data : op->y.data;
    float alpha = 1, beta = op->residual.data ? 1 : 0;
    return lt->Matmul(lt->handle, desc_of(d, op), &alpha, op->w->data, lt->w, x, lt->x, &beta, c, lt->y, op->y.data, lt->y, algo, lt->workspace,
                      WORKSPACE, d->stream);
}

/* Milliseconds of some runs in a row, the best of several rounds, of which the first does not count; infinite where it does
 * not run. */
static float time_of(struct cuda_device *d, const struct linear *op, const void *x, const cublasLtMatmulHeuristicResult_t *r)
{
    struct cublaslt *lt = d->lt;
    float ms, best = INFINITY;
    if (r->state || r->workspaceSize > WORKSPACE)
        return INFINITY;
    for (int round = 0; round < N_ROUND; round++) {
        cuda_need(d, "cudaEventRecord", cudaEventRecord(lt->from, d->stream));
        for (int i = 0; i < N_RUN; i++)
            if (multiply(d, op, x, &r->algo))
                return INFINITY;
        cuda_need(d, "cudaEventRecord", cudaEventRecord(lt->to, d->stream));
        cuda_need(d, "tuning", cudaEventSynchronize(lt->to));
        cuda_need(d, "cudaEventElapsedTime", cudaEventElapsedTime(&ms, lt->from, lt->to));
        best = round && ms < best ? ms : best;
    }
    return best;
}

/* Which of n algorithms; the first, unless it is beaten by more than what a measurement is off. */
static int fastest(struct cuda_device *d, const struct linear *op, const void *x, const cublasLtMatmulHeuristicResult_t *found, int n)
{
    int best = 0;
    describe_all(d, op, op->x.rows);
    float best_ms = 0.98f * time_of(d, op, x, &found[0]);
    for (int i = 1; i < n; i++) {
        float ms = time_of(d, op, x, &found[i]);
        if (ms < best_ms) {
            best = i;
            best_ms = ms;
        }
    }
    return best;
}

/* Not while ops are recorded, which does not run them. */
static bool tries(const struct cuda_device *d)
{
    return d->lt->tuning && !d->recording;
}

static void make_plan(struct cuda_device *d, const struct linear *op, const void *x, struct plan *p, const struct plan_key *key)
{
    struct cublaslt *lt = d->lt;
    cublasLtMatmulHeuristicResult_t found[N_TRY];
    int n = 0;
    describe_plan(d, op, key);
    cublasStatus_t s = lt->MatmulAlgoGetHeuristic(lt->handle, desc_of(d, op), lt->w, lt->x, lt->y, lt->y, lt->preference,
                                                  tries(d) ? N_TRY : 1, found, &n);
    need(d, op, "choosing an algorithm", s ? s : n ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED);
    int best = tries(d) ? fastest(d, op, x, found, n) : 0;
    need(d, op, "choosing an algorithm", found[best].state);
    *p = (struct plan){ .key = *key, .algo = found[best].algo, .tuned = tries(d) };
    lt->new_plans |= tries(d);
}

/* Whether the library still takes it, where it is from a file. */
static bool still_good(struct cuda_device *d, const struct linear *op, struct plan *p)
{
    struct cublaslt *lt = d->lt;
    cublasLtMatmulHeuristicResult_t r = { .workspaceSize = 0 };
    if (p->unchecked) {
        describe_plan(d, op, &p->key);
        if (lt->MatmulAlgoCheck(lt->handle, desc_of(d, op), lt->w, lt->x, lt->y, lt->y, &p->algo, &r) || r.workspaceSize > WORKSPACE)
            return false;
        p->unchecked = false;
    }
    return true;
}

static const struct plan *find_plan(struct cuda_device *d, const struct linear *op, const void *x)
{
    struct cublaslt *lt = d->lt;
    struct plan_key key = { d->base.deterministic ? SAME_ROWS : device_bucket(op->x.rows), op->x.cols, op->y.cols,
                            (op->y.dtype == DTYPE_BF16 ? Y_BF16 : 0) | (op->bias ? WITH_BIAS : 0) | (is_e4m3(op) ? E4M3 : 0) };
    struct plan *p = plans_find(&lt->plans, &key);
    bool there = !memcmp(&p->key, &key, sizeof key) && (p->tuned || !tries(d));
    if (!there || !still_good(d, op, p))
        make_plan(d, op, x, p, &key);
    return p;
}

/* ---- tuning ---- */

static struct plans_origin origin_of(const struct cuda_device *d)
{
    struct plans_origin o = { .n_sm = (uint32_t)d->n_sm, .capability = (uint32_t)d->capability, .library = d->lt->GetVersion() };
    memcpy(o.gpu, d->gpu, sizeof o.gpu);
    return o;
}

void cuda_tune(struct device *base, bool on)
{
    struct cuda_device *d = cuda_of(base);
    struct cublaslt *lt = d->lt;
    struct plans_origin o = origin_of(d);
    if (base->deterministic)
        return;
    lt->tuning = on;
    if (on || lt->new_plans)
        plans_read(&lt->plans, &o);    /* at the end too: other processes may have added some */
    if (!on && lt->new_plans) {
        plans_write(&lt->plans, &o);
        lt->new_plans = false;
    }
}

/* ---- the product ---- */

/* Scratch memory: x in e4m3 [n, n_in], its scales [n], the bias in bf16 [n_out], each if there is one. */
struct scratch { size_t scale, bias, size; };

static struct scratch lay_out(const struct linear *op)
{
    struct scratch s = { 0 };
    if (is_e4m3(op)) {
        s.scale = (size_t)op->x.rows * op->x.cols;
        s.bias = s.scale + (op->x.rows * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    }
    s.size = s.bias + (rounds_bias(op) ? op->y.cols * sizeof(uint16_t) : 0);
    return s;
}

size_t cuda_linear_scratch(const struct linear *op)
{
    return lay_out(op).size;
}

static void check(const struct linear *op)
{
    const struct tensor *r = &op->residual;
    CHECK(op->x.dtype == DTYPE_BF16 && (op->y.dtype == DTYPE_BF16 || op->y.dtype == DTYPE_F32));
    CHECK(op->x.rows && op->x.rows == op->y.rows && op->x.cols == op->w->n_in && op->y.cols == op->w->n_out);
    CHECK(!r->data || (r->dtype == DTYPE_F32 && op->y.dtype == DTYPE_F32 && r->rows == op->y.rows && r->cols == op->y.cols));
    CHECK((uintptr_t)op->x.data % ALIGN == 0 && (uintptr_t)op->y.data % ALIGN == 0 && (uintptr_t)r->data % ALIGN == 0);
}

/* x and bias as the product takes them, made in scratch memory where they are not so. */
static cudaError_t prepare(struct cuda_device *d, const struct linear *op, const void **x, const void **bias)
{
    char *scratch = d->scratch.data;
    struct scratch at = lay_out(op);
    cudaError_t e = cudaSuccess;
    *x = op->x.data;
    *bias = op->bias;
    CHECK(d->scratch.size >= at.size);
    if (rounds_bias(op)) {
        e = cuda_cast(d, op->bias, (uint16_t *)(scratch + at.bias), op->y.cols);
        *bias = scratch + at.bias;
    }
    if (is_e4m3(op) && !e) {
        e = cuda_quantise(d, &op->x, (uint8_t *)scratch, (float *)(scratch + at.scale));
        describe_scales(d, op, (const float *)(scratch + at.scale));
        *x = scratch;
    }
    return e;
}

cudaError_t cuda_linear(struct cuda_device *d, const struct linear *op)
{
    const void *x, *bias;
    check(op);
    cudaError_t e = prepare(d, op, &x, &bias);
    if (e)
        return e;
    describe_bias(d, op, bias);
    const struct plan *p = find_plan(d, op, x);
    describe_all(d, op, op->x.rows);
    need(d, op, "cublasLtMatmul", multiply(d, op, x, &p->algo));
    return cudaSuccess;
}
