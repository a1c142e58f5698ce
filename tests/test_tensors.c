/* test_tensors.c - safetensors: what is right is read and written, what is wrong is refused with its reason, and bytes at
 * random never crash (run under AddressSanitizer). */
#define _DEFAULT_SOURCE     /* mkdtemp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "data/tensors.h"

#define MATERIAL "../shared/material/3-weights/"

static char dir[] = "/tmp/tokmill-test-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[2][200];
    static int next;
    next = !next;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

static void write_file(const char *path, const void *data, size_t size)
{
    unlink(path);           /* overwriting in place makes ext4 wait for the disk */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* A safetensors file of this header and n data bytes 0, 1, 2, ... */
static void put_file(struct buf *b, const char *header, size_t n)
{
    uint64_t len = strlen(header);
    for (int i = 0; i < 8; i++)
        buf_putc(b, (char)(len >> 8 * i));
    buf_puts(b, header);
    for (size_t i = 0; i < n; i++)
        buf_putc(b, (char)i);
}

static struct tensors *open_header(const char *header, size_t n)
{
    struct buf b = {0};
    put_file(&b, header, n);
    write_file(in_dir("t.safetensors"), b.data, b.len);
    buf_free(&b);
    return tensors_open(in_dir("t.safetensors"));
}

static void assert_refused(struct tensors *t, const char *why)
{
    assert_null(t);
    if (!strstr(err_text(), why))
        fail_msg("\"%s\" does not say \"%s\"", err_text(), why);
}

/* ---- right files ---------------------------------------------------------------------------------------------- */

static void test_reading(void **state)
{
    (void)state;
    struct tensors *t = open_header("{\"__metadata__\":{\"a\":\"b\"},\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                                    "\"empty\":{\"dtype\":\"F64\",\"shape\":[7,0],\"data_offsets\":[4,4]},"
                                    "\"a\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}   ", 16);
    assert_non_null(t);
    assert_int_equal(tensors_count(t), 3);
    const struct tensor_info *a = tensors_find(t, "a"), *b = tensors_find(t, "b"), *empty = tensors_find(t, "empty");
    char text[64];
    assert_true(a && a->n_dim == 0 && a->size == 4 && !a->is_float && strcmp(a->type, "I32") == 0);
    assert_true(b && b->n_dim == 2 && b->dim[0] == 2 && b->dim[1] == 3 && b->is_float && b->dtype == DTYPE_F16 && b->size == 12);
    assert_true(empty && empty->size == 0);
    assert_int_equal(((const unsigned char *)b->data)[11], 15);
    tensors_shape_text(text, sizeof text, b);
    assert_string_equal(text, "[2, 3]");
    assert_null(tensors_find(t, "c"));
    tensors_release(t, b);
    tensors_release(t, empty);
    assert_int_equal(((const unsigned char *)b->data)[0], 4);      /* read from the file again */
    tensors_close(t);
    tensors_close(NULL);
}

static void test_writing(void **state)
{
    (void)state;
    const float x[6] = { 1, 2, 3, 4, 5, 6 };
    const uint16_t y[4] = { 7, 8, 9, 10 };
    const struct tensor_info infos[] = {
        { .name = "x\"\n", .is_float = true, .dtype = DTYPE_F32, .n_dim = 2, .dim = { 3, 2 } },
        { .name = "y", .is_float = true, .dtype = DTYPE_BF16, .n_dim = 1, .dim = { 4 } },
    };
    struct tensors_writer *w = tensors_writer_open(in_dir("w.safetensors"), infos, 2);
    assert_non_null(w);
    assert_int_equal(tensors_writer_put(w, x, 8), 0);
    assert_int_equal(tensors_writer_put(w, x + 2, 16), 0);
    assert_int_equal(tensors_writer_put(w, y, 8), 0);
    assert_int_equal(tensors_writer_close(w), 0);
    struct tensors *t = tensors_open(in_dir("w.safetensors"));
    assert_non_null(t);
    assert_memory_equal(tensors_find(t, "x\"\n")->data, x, sizeof x);
    assert_memory_equal(tensors_find(t, "y")->data, y, sizeof y);
    assert_int_equal((uintptr_t)tensors_find(t, "x\"\n")->data % 8, 0);
    tensors_close(t);
    w = tensors_writer_open(in_dir("w.safetensors"), infos, 2);
    assert_int_equal(tensors_writer_put(w, x, 8), 0);
    assert_int_equal(tensors_writer_close(w), -1);
    assert_non_null(strstr(err_text(), "24 bytes of tensor data are missing"));
    assert_null(tensors_writer_open(in_dir("no/such"), infos, 2));
}

static void test_material(void **state)
{
    (void)state;
    if (access(MATERIAL "safetensors-small", R_OK) != 0) {
        print_message("  skipped: " MATERIAL " is not there\n");
        return;
    }
    static const struct { const char *file, *type; int n_dim; size_t size; } cases[] = {
        { "tensor-1d-int32", "I32", 1, 12 }, { "tensor-2d-float64", "F64", 2, 48 }, { "tensor-3d-float32", "F32", 3, 48 },
        { "tensor-4d-float32", "F32", 4, 72 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[200];
        snprintf(path, sizeof path, MATERIAL "safetensors-small/%s.safetensors", cases[i].file);
        struct tensors *t = tensors_open(path);
        assert_non_null(t);
        const struct tensor_info *info = tensors_find(t, "embedding");
        assert_true(info && strcmp(info->type, cases[i].type) == 0 && info->n_dim == cases[i].n_dim && info->size == cases[i].size);
        tensors_close(t);
    }
    struct tensors *t = tensors_open(MATERIAL "tiny-hf-layout");
    assert_non_null(t);
    assert_int_equal(tensors_count(t), 5);
    assert_int_equal(tensors_find(t, "model.layers.1.self_attn.q_proj.weight")->size, 128);
    tensors_close(t);
}

/* ---- wrong files ---------------------------------------------------------------------------------------------- */

#define T(fields) "{\"t\":{" fields "}}"

static void test_bad_headers(void **state)
{
    (void)state;
    static const struct { const char *header; size_t n; const char *why; } cases[] = {
        { "", 0, "header" },
        { "{", 0, "header" },
        { "[]", 0, "the header is an array" },
        { "{}", 1, "1 bytes after the last tensor" },
        { "{\"t\":1}", 0, "unknown dtype" },
        { T("\"dtype\":\"F32\""), 0, "bad shape" },
        { T("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, "unknown dtype \"F33\"" },
        { T("\"dtype\":\"F32\",\"shape\":[1]"), 4, "no data_offsets" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]"), 4, "no data_offsets" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\"0\",4]"), 4, "no data_offsets" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]"), 4, "outside the 4 bytes" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), 4, "outside" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]"), 4, "outside" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]"), 4, "outside" },
        { T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "takes 4 bytes, its shape and dtype say 8" },
        { T("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), 4, "bad shape" },
        { T("\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]"), 4, "bad shape" },
        { T("\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]"), 4, "bad shape" },
        { T("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]"), 4, "bad shape" },
        { T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\"data_offsets\":[0,0]"), 0, "bad shape" },
        { T("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), 1, "its shape and dtype say 1" },
        { T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]"), 3, "begins after a gap" },
        { T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]"), 3, "1 bytes after the last tensor" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "overlaps" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5, "gap" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(open_header(cases[i].header, cases[i].n), cases[i].why);
    assert_refused(tensors_open(in_dir("none")), "cannot be opened");
    write_file(in_dir("short"), "1234567", 7);
    assert_refused(tensors_open(in_dir("short")), "too short");
    write_file(in_dir("long"), "\x09\0\0\0\0\0\0\0{}", 10);
    assert_refused(tensors_open(in_dir("long")), "longer than the file");
    write_file(in_dir("long"), "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_refused(tensors_open(in_dir("long")), "longer than the format allows");
}

static void test_folders(void **state)
{
    (void)state;
    static const struct { const char *index, *why; } cases[] = {
        { "[", "JSON" }, { "{}", "weight_map is nothing" }, { "{\"weight_map\":{}}", "weight_map is an object" }, { "{\"weight_map\":[1]}", "weight_map is an array" },
        { "{\"weight_map\":{\"t\":1}}", "file name" }, { "{\"weight_map\":{\"t\":\"../x\"}}", "\"../x\"" }, { "{\"weight_map\":{\"t\":\"..\"}}", "\"..\"" },
        { "{\"weight_map\":{\"t\":\"\"}}", "file name" }, { "{\"weight_map\":{\"t\":\"/etc/passwd\"}}", "\"/etc/passwd\"" },
        { "{\"weight_map\":{\"t\":\"none\"}}", "cannot be opened" }, { "{\"weight_map\":{\"q\":\"t.safetensors\"}}", "\"q\" is not in \"t.safetensors\"" },
        { "{\"weight_map\":{\"t\":\"t.safetensors\",\"u\":\"t.safetensors\"}}", "\"u\" is not in" },
    };
    assert_refused(tensors_open(dir), "no model.safetensors");
    tensors_close(open_header(T("\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]"), 3));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(in_dir("model.safetensors.index.json"), cases[i].index, strlen(cases[i].index));
        assert_refused(tensors_open(dir), cases[i].why);
    }
    static const char good[] = "{\"weight_map\":{\"t\":\"t.safetensors\"}}";
    write_file(in_dir("model.safetensors.index.json"), good, strlen(good));
    struct tensors *t = tensors_open(dir);
    assert_non_null(t);
    assert_non_null(tensors_find(t, "t"));
    tensors_close(t);
    t = tensors_open("tests/golden/qwen3-sharded");
    assert_non_null(t);
    assert_non_null(tensors_find(t, "lm_head.weight"));
    assert_int_equal(tensors_count(t), 48);
    tensors_close(t);
}

/* One random change: a byte, a digit, a piece cut out or doubled, the end cut off. */
static void mutate(struct buf *b, struct rng *r)
{
    if (!b->len)
        return;
    size_t at = rng_below(r, (uint32_t)b->len), n = rng_below(r, 8);
    switch (rng_below(r, 6)) {
    case 0: b->data[at] = (char)rng_u32(r); break;
    case 1: case 2:
        while (at < b->len && (b->data[at] < '0' || b->data[at] > '9'))
            at++;
        if (at < b->len)
            b->data[at] = (char)('0' + rng_below(r, 10));
        break;
    case 3:
        n = n < b->len - at ? n : b->len - at;
        memmove(b->data + at, b->data + at + n, b->len - at - n);
        b->len -= n;
        break;
    case 4:
        n = n < b->len - at ? n : b->len - at;
        buf_reserve(b, n);
        memmove(b->data + at + n, b->data + at, b->len - at);
        b->len += n;
        break;
    case 5: b->len = at; break;
    }
}

/* Reads every byte of every tensor, so that a wrong pointer is found. */
static unsigned touch(const struct tensors *t)
{
    unsigned sum = 0;
    for (size_t i = 0; i < tensors_count(t); i++)
        for (size_t k = 0; k < tensors_at(t, i)->size; k++)
            sum += ((const unsigned char *)tensors_at(t, i)->data)[k];
    return sum;
}

static void test_mutations(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a.weight\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[0,48]},"
        "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[48,58]},\"c\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[58,66]}}";
    struct rng r;
    rng_init(&r, 1);
    unsigned n_open = 0, sum = 0;
    for (int i = 0; i < 1500; i++) {
        struct buf b = {0};
        put_file(&b, header, 66);
        for (uint32_t n = rng_below(&r, 4) + 1; n; n--)
            mutate(&b, &r);
        write_file(in_dir("m.safetensors"), b.data, b.len);
        buf_free(&b);
        struct tensors *t = tensors_open(in_dir("m.safetensors"));
        if (t) {
            n_open++;
            sum += touch(t);
        }
        tensors_close(t);
    }
    print_message("  %u of 1500 mutated files are still right (sum %u)\n", n_open, sum);
    assert_in_range(n_open, 1, 1499);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading), cmocka_unit_test(test_writing), cmocka_unit_test(test_material), cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_folders), cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
