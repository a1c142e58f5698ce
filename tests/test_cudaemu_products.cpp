/* The stand-in of cuBLASLt (tests/cudaemu/blaslt.cpp) against plain sums in f64, for types, orders and
 * epilogues as the product uses them, on odd shapes with padded rows; and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

extern "C" {
#include <cmocka.h>
}
#include <cublasLt.h>

#include "kernels/cuda/prim.h"

struct shape { int m, n, k; cudaDataType in, out; bool transa, transb, bias, residual, row_major, vector_scales; };

static size_t width(cudaDataType t)
{
    return t == CUDA_R_32F ? 4 : t == CUDA_R_16BF ? 2 : 1;
}

static double get(const void *p, cudaDataType t, size_t i)
{
    return t == CUDA_R_32F ? ((const float *)p)[i] : t == CUDA_R_16BF ? f32_of_bf16(((const uint16_t *)p)[i]) : prim_f32_of_e4m3(((const uint8_t *)p)[i]);
}

static void put(void *p, cudaDataType t, size_t i, float x)
{
    if (t == CUDA_R_32F)
        ((float *)p)[i] = x;
    else if (t == CUDA_R_16BF)
        ((uint16_t *)p)[i] = bf16_of_f32(x);
    else
        ((uint8_t *)p)[i] = (uint8_t)prim_e4m3_of_f32(x);
}

/* A matrix or vector of random numbers on both sides. */
struct both { char *host; void *device; size_t size; cudaDataType type; int rows, cols, ld; bool row_major; };

static struct both both_new(int rows, int cols, int ld, bool row_major, cudaDataType type, uint32_t seed)
{
    struct both b = { NULL, NULL, (size_t)ld * (row_major ? rows : cols) * width(type), type, rows, cols, ld, row_major };
    b.host = (char *)malloc(b.size);
    for (size_t i = 0; i < b.size / width(type); i++) {
        seed = seed * 1664525u + 1013904223u;
        put(b.host, type, i, (float)(int)(seed >> 8) * 0x1p-23f - 1);
    }
    assert_int_equal(cudaMalloc(&b.device, b.size), cudaSuccess);
    return b;
}

static double at(const struct both *b, int row, int col)
{
    return get(b->host, b->type, b->row_major ? (size_t)row * b->ld + col : (size_t)col * b->ld + row);
}

static void both_free(struct both *b)
{
    free(b->host);
    cudaFree(b->device);
}

static cublasLtMatrixLayout_t layout_of(const struct both *b)
{
    cublasLtMatrixLayout_t l;
    int32_t order = b->row_major ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    assert_int_equal(cublasLtMatrixLayoutCreate(&l, b->type, b->rows, b->cols, b->ld), CUBLAS_STATUS_SUCCESS);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order);
    return l;
}

template <class T> static void set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a, T v)
{
    assert_int_equal(cublasLtMatmulDescSetAttribute(d, a, &v, sizeof v), CUBLAS_STATUS_SUCCESS);
}

struct matrices { struct both a, b, d, bias, scale_a, scale_b; };

static struct matrices matrices_new(const struct shape *s)
{
    struct matrices x;
    bool t = s->row_major;
    int pad = s->in == CUDA_R_8F_E4M3 ? 16 : 3;
    x.a = s->transa ? both_new(s->k, s->m, (t ? s->m : s->k) + pad, t, s->in, 1) : both_new(s->m, s->k, (t ? s->k : s->m) + pad, t, s->in, 1);
    x.b = s->transb ? both_new(s->n, s->k, (t ? s->k : s->n) + pad, t, s->in, 2) : both_new(s->k, s->n, (t ? s->n : s->k) + pad, t, s->in, 2);
    x.d = both_new(s->m, s->n, (t ? s->n : s->m) + (s->in == CUDA_R_8F_E4M3 ? 8 : 1), t, s->out, 3);
    x.bias = both_new(s->m, 1, s->m, false, s->in == CUDA_R_8F_E4M3 ? CUDA_R_16BF : s->out, 4);
    x.scale_a = both_new(s->m, 1, s->m, false, CUDA_R_32F, 5);
    x.scale_b = both_new(s->n, 1, s->n, false, CUDA_R_32F, 6);
    return x;
}

static double want(const struct shape *s, const struct matrices *x, int i, int j)
{
    double sum = 0;
    for (int k = 0; k < s->k; k++)
        sum += (s->transa ? at(&x->a, k, i) : at(&x->a, i, k)) * (s->transb ? at(&x->b, j, k) : at(&x->b, k, j));
    if (s->in == CUDA_R_8F_E4M3)
        sum *= at(&x->scale_a, s->vector_scales ? i : 0, 0) * at(&x->scale_b, s->vector_scales ? j : 0, 0);
    return sum * 0.5 + (s->residual ? at(&x->d, i, j) : 0) + (s->bias ? at(&x->bias, i, 0) : 0);
}

static cublasLtMatmulDesc_t desc_of(const struct shape *s, const struct matrices *x)
{
    cublasLtMatmulDesc_t d;
    cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    set(d, CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)(s->transa ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(d, CUBLASLT_MATMUL_DESC_TRANSB, (int32_t)(s->transb ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (s->bias) {
        set(d, CUBLASLT_MATMUL_DESC_EPILOGUE, (uint32_t)CUBLASLT_EPILOGUE_BIAS);
        set(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, x->bias.device);
        set(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)x->bias.type);
    }
    if (s->in == CUDA_R_8F_E4M3) {
        set(d, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, x->scale_a.device);
        set(d, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x->scale_b.device);
        int32_t mode = s->vector_scales ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
        set(d, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
        set(d, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
    }
    return d;
}

/* Runs the best algorithm; the status of the question for it. */
static cublasStatus_t multiply(const struct shape *s, const struct matrices *x, cudaStream_t stream)
{
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t pref;
    cublasLtMatmulHeuristicResult_t best;
    cublasLtMatmulDesc_t d = desc_of(s, x);
    cublasLtMatrixLayout_t a = layout_of(&x->a), b = layout_of(&x->b), out = layout_of(&x->d);
    uint64_t room = 8 << 20;
    float alpha = 0.5f, beta = s->residual ? 1 : 0;
    void *workspace;
    int n;
    cublasLtCreate(&handle);
    cudaMalloc(&workspace, room);
    cublasLtMatmulPreferenceCreate(&pref);
    cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, d, a, b, out, out, pref, 1, &best, &n);
    if (status == CUBLAS_STATUS_SUCCESS)
        assert_int_equal(cublasLtMatmul(handle, d, &alpha, x->a.device, a, x->b.device, b, &beta, x->d.device, out, x->d.device, out, &best.algo,
                                        workspace, best.workspaceSize, stream), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceDestroy(pref);
    cublasLtMatrixLayoutDestroy(a);
    cublasLtMatrixLayoutDestroy(b);
    cublasLtMatrixLayoutDestroy(out);
    cublasLtMatmulDescDestroy(d);
    cublasLtDestroy(handle);
    cudaFree(workspace);
    return status;
}

static void check_product(const struct shape *s)
{
    struct matrices x = matrices_new(s);
    struct both *all[] = { &x.a, &x.b, &x.d, &x.bias, &x.scale_a, &x.scale_b };
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    for (struct both *b : all)
        cudaMemcpyAsync(b->device, b->host, b->size, cudaMemcpyHostToDevice, stream);
    assert_int_equal(multiply(s, &x, stream), CUBLAS_STATUS_SUCCESS);
    struct both got = x.d;
    got.host = (char *)malloc(got.size);
    cudaMemcpyAsync(got.host, got.device, got.size, cudaMemcpyDeviceToHost, stream);
    for (int i = 0; i < s->m; i++)
        for (int j = 0; j < s->n; j++) {
            double y = want(s, &x, i, j), most = (s->out == CUDA_R_16BF ? 0x1p-8 : 0) * fabs(y) + 1e-6 * s->k;
            if (!(fabs(at(&got, i, j) - y) <= most))
                fail_msg("product %d x %d x %d: [%d, %d] is %g, but it should be %g", s->m, s->n, s->k, i, j, at(&got, i, j), y);
        }
    free(got.host);
    for (struct both *b : all)
        both_free(b);
    cudaStreamDestroy(stream);
}

static void test_products(void **state)
{
    (void)state;
    const cudaDataType f32 = CUDA_R_32F, bf16 = CUDA_R_16BF, e4m3 = CUDA_R_8F_E4M3;
    const struct shape shape[] = {
        { 1, 1, 1, f32, f32, false, false, false, false, false, false },
        { 17, 5, 33, f32, f32, true, false, true, true, false, false },
        { 40, 7, 24, bf16, bf16, true, false, true, true, false, false },
        { 13, 21, 50, bf16, f32, true, false, false, true, false, false },
        { 13, 21, 50, bf16, f32, false, true, true, false, false, false },
        { 9, 20, 31, bf16, bf16, false, true, false, true, true, false },
        { 32, 5, 48, e4m3, bf16, true, false, true, false, false, false },
        { 16, 19, 64, e4m3, f32, true, false, false, true, false, true },
    };
    for (const struct shape &s : shape)
        check_product(&s);
}

static void test_products_refused(void **state)
{
    (void)state;
    const struct shape shape[] = {
        { 16, 16, 16, CUDA_R_16BF, CUDA_R_8F_E4M3, true, false, false, false, false, false },
        { 16, 16, 16, CUDA_R_8F_E4M3, CUDA_R_16BF, false, false, false, false, false, false },
        { 24, 16, 40, CUDA_R_8F_E4M3, CUDA_R_16BF, true, false, false, false, false, false },
    };
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    for (const struct shape &s : shape) {
        struct matrices x = matrices_new(&s);
        assert_int_equal(multiply(&s, &x, stream), CUBLAS_STATUS_NOT_SUPPORTED);
        for (struct both *b : { &x.a, &x.b, &x.d, &x.bias, &x.scale_a, &x.scale_b })
            both_free(b);
    }
    cudaStreamDestroy(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_products), cmocka_unit_test(test_products_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
