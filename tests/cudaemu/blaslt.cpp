/* blaslt.cpp - the part of cuBLASLt that the product uses: D = alpha op(A) op(B) + beta C + bias in f32, for f32, bf16 and e4m3.
 * What the library refuses on Hopper is refused (its documentation, section "cublasLtMatmul"); what it would take as a
 * fault of the caller ends the program.
 *
 * As in the library, the number of columns of D decides which algorithm comes first, and each rounds in its own way.  For few
 * columns there is a faster one than the first, by 1 %; for more the second is the fastest by far. */
#include <cstring>
#include <vector>

#include <cublasLt.h>

#include "kernels/cuda/prim.h"

#include "core.h"

struct layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld, batch_stride;
    int32_t order, n_batch;
};

struct desc {
    cublasComputeType_t compute;
    cudaDataType_t scale_type;
    int32_t transa, transb;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    int32_t bias_type;                 /* -1: D's */
    const void *scale[2];              /* of A, B: device f32; NULL: 1 */
    int32_t scale_mode[2];
    int8_t fast_accum;
};

struct preference { uint64_t workspace; uint32_t schemes, align[4]; };

/* Our algorithms, as the library's opaque bytes hold them.  Split sums are as many as fill the device; they take workspace,
 * and schemes must allow their reduction. */
struct algo { uint64_t mark, workspace, id; };
static const uint64_t MARK = 0x656d75616c676f31;
static const size_t NEEDS[EMU_N_ALGORITHM] = { 0, 0, 4 << 20 };     /* workspace */

/* For few columns of D, and for more: in the order of choice; and what each algorithm takes. */
enum { FEW = 64 };
static const int CHOICE[2][EMU_N_ALGORITHM] = { { EMU_NARROW, EMU_SPLIT, EMU_WIDE }, { EMU_SPLIT, EMU_WIDE, EMU_NARROW } };
static const double TAKES_MS[2][EMU_N_ALGORITHM] = { { 0.02, 0.01, 0.0099 }, { 0.01, 0.02, 0.011 } };

static uint64_t n_asked;
static enum emu_algorithm last_algorithm = EMU_N_ALGORITHM;

uint64_t emu_asked(void) { return n_asked; }
enum emu_algorithm emu_algorithm(void) { return last_algorithm; }

static size_t type_size(int type)
{
    switch (type) {
    case CUDA_R_32F: return 4;
    case CUDA_R_16BF: return 2;
    case CUDA_R_8F_E4M3: return 1;
    default: return 0;
    }
}

/* ---- descriptors ---- */

template <class T> static cublasStatus_t set(T *to, const void *from, size_t size)
{
    if (size != sizeof *to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, size);
    return CUBLAS_STATUS_SUCCESS;
}

template <class Opaque, class T> static cublasStatus_t create(Opaque *out, const T &value)
{
    *out = (Opaque)new T(value);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) { return create(h, 1); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { delete (int *)h; return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion(void) { return 130100; }

const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS ? "success" : s == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "invalid value";
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
    return create(l, layout{type, rows, cols, ld, 0, CUBLASLT_ORDER_COL, 1});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete (layout *)l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t opaque, cublasLtMatrixLayoutAttribute_t a, const void *v, size_t size)
{
    layout *l = (layout *)opaque;
    switch (a) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return set(&l->type, v, size);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(&l->order, v, size);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(&l->rows, v, size);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return set(&l->cols, v, size);
    case CUBLASLT_MATRIX_LAYOUT_LD: return set(&l->ld, v, size);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&l->n_batch, v, size);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&l->batch_stride, v, size);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale_type)
{
    return create(d, desc{compute, scale_type, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, -1, {}, {}, 0});
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete (desc *)d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque, cublasLtMatmulDescAttributes_t a, const void *v, size_t size)
{
    desc *d = (desc *)opaque;
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->transa, v, size);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->transb, v, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, v, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, v, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&d->bias_type, v, size);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return set(&d->scale[0], v, size);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return set(&d->scale[1], v, size);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE: return set(&d->scale_mode[0], v, size);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE: return set(&d->scale_mode[1], v, size);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return set(&d->fast_accum, v, size);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    return create(p, preference{0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete (preference *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t opaque, cublasLtMatmulPreferenceAttributes_t a, const void *v,
                                                    size_t size)
{
    preference *p = (preference *)opaque;
    switch (a) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&p->workspace, v, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&p->schemes, v, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(&p->align[0], v, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(&p->align[1], v, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(&p->align[2], v, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(&p->align[3], v, size);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

/* ---- what is supported ---- */

struct product {
    desc d;
    layout l[4];                       /* A, B, C, D */
    uint64_t m, n, k;
    float alpha, beta;
    const char *a, *b, *c;
    char *out, *workspace;
    size_t workspace_size;
};

static cublasStatus_t describe(product *p, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out)
{
    p->d = *(desc *)d;
    const cublasLtMatrixLayout_t given[4] = { a, b, c, out };
    for (int i = 0; i < 4; i++) {
        p->l[i] = *(layout *)given[i];
        const layout *l = &p->l[i];
        uint64_t least = l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols;
        if (!type_size(l->type) || (l->order != CUBLASLT_ORDER_COL && l->order != CUBLASLT_ORDER_ROW))
            return CUBLAS_STATUS_NOT_SUPPORTED;
        if (!l->rows || !l->cols || l->ld < (int64_t)least || l->n_batch != p->l[0].n_batch)
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    p->m = p->d.transa ? p->l[0].cols : p->l[0].rows;
    p->k = p->d.transa ? p->l[0].rows : p->l[0].cols;
    p->n = p->d.transb ? p->l[1].rows : p->l[1].cols;
    if ((p->d.transb ? p->l[1].cols : p->l[1].rows) != p->k || p->l[3].rows != p->m || p->l[3].cols != p->n || p->l[2].rows != p->m ||
        p->l[2].cols != p->n || p->l[2].order != p->l[3].order)
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

/* e4m3: A transposed, B not, by columns, every column a multiple of 16 bytes; scales are one number, or one a row of D by one
 * a column. */
static bool e4m3_fits(const product *p)
{
    for (int i = 0; i < 4; i++)
        if (p->l[i].order != CUBLASLT_ORDER_COL || p->l[i].ld * type_size(p->l[i].type) % 16)
            return false;
    bool vectors = p->d.scale_mode[0] == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return p->d.transa == CUBLAS_OP_T && p->d.transb == CUBLAS_OP_N && p->k % 16 == 0 && p->m % 16 == 0 &&
           p->d.scale_mode[0] == p->d.scale_mode[1] && (vectors || p->d.scale_mode[0] == CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
}

static cublasStatus_t supported(const product *p)
{
    int in = p->l[0].type, out = p->l[3].type, bias = p->d.bias_type < 0 ? out : p->d.bias_type;
    bool has_bias = p->d.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (p->l[1].type != in || p->l[2].type != out || out == CUDA_R_8F_E4M3 || (in == CUDA_R_32F && out != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p->d.compute != CUBLAS_COMPUTE_32F || p->d.scale_type != CUDA_R_32F || (p->d.epilogue != CUBLASLT_EPILOGUE_DEFAULT && !has_bias))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (in == CUDA_R_8F_E4M3)
        return e4m3_fits(p) && (!has_bias || bias == CUDA_R_16BF) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    return has_bias && bias != out ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t pref,
                                              int most, cublasLtMatmulHeuristicResult_t result[], int *n)
{
    product p;
    *n = 0;
    n_asked++;
    cublasStatus_t s = describe(&p, d, a, b, c, out);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = supported(&p);
    for (int i = 0; i < EMU_N_ALGORITHM && s == CUBLAS_STATUS_SUCCESS && *n < most; i++) {
        int id = CHOICE[p.n > FEW][i];
        if (NEEDS[id] > ((preference *)pref)->workspace || (id == EMU_SPLIT && !((preference *)pref)->schemes))
            continue;
        cublasLtMatmulHeuristicResult_t *r = &result[(*n)++];
        algo mine = { MARK, NEEDS[id], (uint64_t)id };
        memset(r, 0, sizeof *r);
        memcpy(&r->algo, &mine, sizeof mine);
        r->workspaceSize = NEEDS[id];
        r->state = CUBLAS_STATUS_SUCCESS;
        r->wavesCount = 1;
    }
    return s;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out, const cublasLtMatmulAlgo_t *opaque,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    product p;
    algo given;
    memcpy(&given, opaque, sizeof given);
    if (given.mark != MARK || given.id >= EMU_N_ALGORITHM)
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t s = describe(&p, d, a, b, c, out);
    result->workspaceSize = given.workspace;
    result->wavesCount = 1;
    return result->state = s == CUBLAS_STATUS_SUCCESS ? supported(&p) : s;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *opaque, cublasLtMatmulAlgoConfigAttributes_t a, void *v,
                                                    size_t size, size_t *written)
{
    algo given;
    memcpy(&given, opaque, sizeof given);
    uint32_t value = a == CUBLASLT_ALGO_CONFIG_ID ? (uint32_t)given.id : a == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? 1 + (given.id == EMU_SPLIT) : 0;
    if (size > sizeof value)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(v, &value, size);
    if (written)
        *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ---- */

static float number_at(const char *p, int type, size_t i)
{
    if (type == CUDA_R_32F)
        return ((const float *)p)[i];
    if (type == CUDA_R_16BF)
        return f32_of_bf16(((const uint16_t *)p)[i]);
    return prim_f32_of_e4m3(((const uint8_t *)p)[i]);
}

static void put(char *p, int type, size_t i, float x)
{
    if (type == CUDA_R_32F)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = bf16_of_f32(x);
}

static size_t element(const layout *l, uint64_t row, uint64_t col)
{
    return l->order == CUBLASLT_ORDER_COL ? row + col * (size_t)l->ld : row * (size_t)l->ld + col;
}

/* Row i of the result: element i of the kept dimension, all k of the other. */
static std::vector<float> unfold(const char *p, const layout *l, bool rows_kept, uint64_t n, uint64_t k)
{
    std::vector<float> out(n * k);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = 0; j < k; j++)
            out[i * k + j] = number_at(p, l->type, rows_kept ? element(l, i, j) : element(l, j, i));
    return out;
}

template <int WIDTH> static float dot(const float *a, const float *b, uint64_t k)
{
    float part[WIDTH] = {}, sum = 0;
    uint64_t j = 0;
    for (; j + WIDTH <= k; j += WIDTH)
        for (int i = 0; i < WIDTH; i++)
            part[i] += a[j + i] * b[j + i];
    for (; j < k; j++)
        sum += a[j] * b[j];
    for (int i = 0; i < WIDTH; i++)
        sum += part[i];
    return sum;
}

static float dot_split(const float *a, const float *b, uint64_t k, uint64_t n_split)
{
    float sum = 0;
    for (uint64_t i = 0; i < n_split; i++)
        sum += dot<16>(a + k * i / n_split, b + k * i / n_split, k * (i + 1) / n_split - k * i / n_split);
    return sum;
}

static float dot_by(uint64_t id, const product *p, const float *a, const float *b)
{
    return id == EMU_WIDE ? dot<16>(a, b, p->k) : id == EMU_NARROW ? dot<8>(a, b, p->k) : dot_split(a, b, p->k, 2 + FEW / p->n);
}

static float scale_at(const product *p, int of, uint64_t i)
{
    const float *s = (const float *)p->d.scale[of];
    return !s ? 1 : p->d.scale_mode[of] == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F ? s[i] : s[0];
}

static void multiply(const product *p, uint64_t id, int batch)
{
    const char *in[3] = { p->a, p->b, p->c };
    for (int i = 0; i < 3; i++)
        in[i] += (size_t)batch * p->l[i].batch_stride * type_size(p->l[i].type);
    char *out = p->out + (size_t)batch * p->l[3].batch_stride * type_size(p->l[3].type);
    std::vector<float> a = unfold(in[0], &p->l[0], !p->d.transa, p->m, p->k), b = unfold(in[1], &p->l[1], p->d.transb, p->n, p->k);
    for (uint64_t i = 0; i < p->m; i++)
        for (uint64_t j = 0; j < p->n; j++) {
            float y = p->alpha * scale_at(p, 0, i) * scale_at(p, 1, j) * dot_by(id, p, &a[i * p->k], &b[j * p->k]);
            if (p->beta != 0)
                y += p->beta * number_at(in[2], p->l[2].type, element(&p->l[2], i, j));
            if (p->d.epilogue == CUBLASLT_EPILOGUE_BIAS)
                y += number_at((const char *)p->d.bias, p->d.bias_type < 0 ? p->l[3].type : p->d.bias_type, i);
            put(out, p->l[3].type, element(&p->l[3], i, j), y);
        }
}

static void check_matrix(const char *name, const void *p, const layout *l)
{
    size_t last = element(l, l->rows - 1, l->cols - 1) + (size_t)(l->n_batch - 1) * l->batch_stride + 1;
    if (memory_extent(p) < last * type_size(l->type))
        emu_fail(nullptr, "cublasLtMatmul: matrix %s needs %zu bytes at %p, where the allocation has %zu", name, last * type_size(l->type), p,
                 memory_extent(p));
    if ((uintptr_t)p % 16)
        emu_fail(nullptr, "cublasLtMatmul: matrix %s at %p, which is no multiple of 16", name, p);
}

static void check_vector(const char *name, const void *p, size_t size)
{
    if (memory_extent(p) < size)
        emu_fail(nullptr, "cublasLtMatmul: the %s needs %zu bytes of device memory at %p", name, size, p);
}

static void check_addresses(const product *p)
{
    check_matrix("A", p->a, &p->l[0]);
    check_matrix("B", p->b, &p->l[1]);
    if (p->beta != 0)
        check_matrix("C", p->c, &p->l[2]);
    check_matrix("D", p->out, &p->l[3]);
    if (p->beta != 0 && p->c == p->out && p->l[2].ld != p->l[3].ld)
        emu_fail(nullptr, "cublasLtMatmul: C is D, but their leading dimensions differ");
    if (p->d.epilogue == CUBLASLT_EPILOGUE_BIAS)
        check_vector("bias", p->d.bias, p->m * type_size(p->d.bias_type < 0 ? p->l[3].type : p->d.bias_type));
    for (int i = 0; i < 2; i++)
        if (p->d.scale[i])
            check_vector("scale", p->d.scale[i], p->d.scale_mode[i] == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F ? 4 * (i ? p->n : p->m) : 4);
    if (p->workspace_size)
        check_vector("workspace", p->workspace, p->workspace_size);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *A, cublasLtMatrixLayout_t a,
                              const void *B, cublasLtMatrixLayout_t b, const void *beta, const void *C, cublasLtMatrixLayout_t c, void *D,
                              cublasLtMatrixLayout_t out, const cublasLtMatmulAlgo_t *opaque, void *workspace, size_t workspace_size,
                              cudaStream_t stream)
{
    product p;
    algo given = { MARK, NEEDS[EMU_WIDE], EMU_WIDE };
    if (opaque)
        memcpy(&given, opaque, sizeof given);
    cublasStatus_t s = describe(&p, d, a, b, c, out);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = supported(&p);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    if (given.mark != MARK || given.id >= EMU_N_ALGORITHM || given.workspace > workspace_size)
        return CUBLAS_STATUS_INVALID_VALUE;
    p.alpha = *(const float *)alpha;
    p.beta = *(const float *)beta;
    p.a = (const char *)A, p.b = (const char *)B, p.c = (const char *)C, p.out = (char *)D;
    p.workspace = (char *)workspace;
    p.workspace_size = workspace_size;
    check_addresses(&p);
    cudaError_t e = stream_add(stream, "a product", [p, given] {
        memset(p.workspace, 0xff, given.workspace);
        for (int batch = 0; batch < p.l[0].n_batch; batch++)
            multiply(&p, given.id, batch);
        stream_spend(TAKES_MS[p.n > FEW][given.id]);
        last_algorithm = (enum emu_algorithm)given.id;
    });
    return e ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}
