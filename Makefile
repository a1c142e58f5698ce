# make [CUDA=no] | make test | make asan | make tsan | make fuzz | make bench | make test-cluster | make gpu | make man | make install PREFIX= DESTDIR= | make clean
BUILD   ?= build
OPT     ?= -O2
PREFIX  ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif
VERSION := 0.1.0

# The last two are for clang, which has no -Wformat-truncation and minds CHECK(!"what cannot be").
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-format-truncation -Wno-string-conversion -Wno-unknown-warning-option -Werror
ALLFLAGS  = -std=c11 -g $(OPT) $(WARN) -MMD -MP -Isrc -I. -DTOKMILL_VERSION='"$(VERSION)"' $(SANITIZE) $(CFLAGS)
LIBS     := -lzstd -ljansson -lpcre2-8 -lutf8proc -lz -ldnnl -ldl -lpthread -lm

# kernels/cpu/vec_*.c are compiled once for each instruction set (for AMX, attention alone); the device picks at run time.
AVX2   := -mavx2 -mfma -mf16c
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16
AMX    := $(AVX512) -mamx-tile -mamx-bf16 -mamx-int8

# The CUDA device is built where there is the toolkit: nvcc on the PATH or in /usr/local/cuda.  CUDA=FOLDER is another one,
# CUDA=no builds without.  SASS for Hopper, and PTX that the driver compiles for other GPUs from sm_80 on.
CUDA ?= $(or $(patsubst %/bin/nvcc,%,$(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))),no)
ifeq ($(CUDA),no)
CUDA_SRC := kernels/cuda/absent.c
LDLIBS   := $(LIBS)
else
CUDA_SRC := $(filter-out %/absent.c,$(wildcard kernels/cuda/*.c kernels/cuda/*.cu))
NVCC     := $(CUDA)/bin/nvcc
NVFLAGS  := -std=c++17 -O3 -objtemp -MMD -MP -Isrc -I. -gencode arch=compute_90,code=sm_90 -gencode arch=compute_80,code=compute_80 \
            -Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics
LDLIBS   := $(LIBS) -L$(CUDA)/lib64 -Wl,-rpath,$(CUDA)/lib64 -lcudart_static -lrt
$(BUILD)/kernels/cuda/%.o: CFLAGS += -isystem $(CUDA)/include
endif

SRC   := $(filter-out kernels/cpu/vec_%,$(wildcard src/*/*.c kernels/*.c kernels/cpu/*.c)) $(CUDA_SRC)
VEC   := $(wildcard kernels/cpu/vec_*.c)
OBJ   := $(patsubst %,$(BUILD)/%.o,$(SRC:.c=)) $(foreach t,base avx2 avx512,$(VEC:%.c=$(BUILD)/%.$t.o)) $(BUILD)/kernels/cpu/vec_attention.amx.o
LIB   := $(filter-out $(BUILD)/src/cmd/main.o,$(OBJ))
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(filter-out tests/test_cuda.c,$(wildcard tests/test_*.c)))
BIN   := $(BUILD)/tokmill

.PHONY: all test asan tsan fuzz fuzzers fuzz_programs bench test-cluster gpu man install clean
.SECONDARY:
all: $(BIN)

include tests/cudaemu/emu.mk
EMU_REST := $(BUILD)/libtokmill.a $(LIBS)
$(call emu_program,test_cudaemu,tests/test_cudaemu.cpp tests/cudaemu/conformance.cu tests/cudaemu/misuse.cu tests/cudaemu/planted.cu)
$(call emu_program,test_cudaemu_products,tests/test_cudaemu_products.cpp)
$(call emu_program,test_cuda,tests/test_cuda.c $(EMU_DEVICE),$(EMU_REST))
$(call emu_program,test_cuda_rows,tests/cudaemu/test_rows.c kernels/cuda/rows.cu kernels/cuda/rope.cu,$(EMU_REST))
$(call emu_program,test_cuda_sample,tests/cudaemu/test_sample.c kernels/cuda/sample.cu,$(EMU_REST))
$(call emu_program,test_cuda_attention,tests/cudaemu/test_attention.c kernels/cuda/attention.cu kernels/cuda/prefill.cu kernels/cuda/decode.cu,$(EMU_REST))

# The whole program, its CUDA device on the emulation; and the measuring of ops that `make gpu` does.
EMULATED := $(addprefix $(BUILD)/cudaemu/,tokmill perf_cuda)
test: $(if $(SANITIZE),,$(EMULATED))
$(BUILD)/cudaemu/tokmill: $(BUILD)/src/cmd/main.o
$(BUILD)/cudaemu/perf_cuda: $(BUILD)/cudaemu/plain/tests/perf_cuda.o
$(EMULATED): $(patsubst %,$(BUILD)/cudaemu/plain/%.o,$(basename $(EMU_DEVICE))) $(BUILD)/cudaemu/plain/libcudaemu.a $(BUILD)/libtokmill.a
	@$(CXX) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS) $(EMU_LIBS)

# The program with an engine that breaks down on demand.
test: $(BUILD)/tests/tokmill_broken
$(BUILD)/tests/tokmill_broken: $(BUILD)/src/cmd/main.o $(BUILD)/tests/broken.o $(BUILD)/libtokmill.a
	@$(CC) $(SANITIZE) -Wl,--wrap=forward_run -o $@ $^ $(LDLIBS)

$(BIN): $(OBJ)
	@$(CC) $(SANITIZE) -o $@ $^ $(LDLIBS)

$(BUILD)/%.cu.o: %.cu
	@mkdir -p $(@D)
	@$(NVCC) $(NVFLAGS) -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -c -o $@ $<

$(BUILD)/kernels/cpu/vec_%.base.o: kernels/cpu/vec_%.c
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -DTIER=CPU_BASE -c -o $@ $<
$(BUILD)/kernels/cpu/vec_%.avx2.o: kernels/cpu/vec_%.c
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -DTIER=CPU_AVX2 $(AVX2) -c -o $@ $<
$(BUILD)/kernels/cpu/vec_%.avx512.o: kernels/cpu/vec_%.c
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -DTIER=CPU_AVX512 $(AVX512) -c -o $@ $<
$(BUILD)/kernels/cpu/vec_%.amx.o: kernels/cpu/vec_%.c
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -DTIER=CPU_AMX $(AMX) -c -o $@ $<
$(BUILD)/kernels/cpu/panel_amx.o: CFLAGS += $(AMX)

$(BUILD)/libtokmill.a: $(LIB)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/libtokmill.a
	@$(CC) $(SANITIZE) -o $@ $^ $(LDLIBS) -lcmocka

# The product whose model takes longer, for test_gate.sh.
SLOW := $(BUILD)/tests/tokmill_slow
test: $(SLOW)
$(SLOW): $(BUILD)/tests/slow.o $(BUILD)/src/cmd/main.o $(BUILD)/libtokmill.a
	@$(CC) $(SANITIZE) -Wl,--wrap=forward_run -o $@ $^ $(LDLIBS)

# The program that test_crash.sh kills at a call of its choice.
CRASH_WRAP := write pwrite fsync fdatasync ftruncate unlink read clock_gettime
$(BUILD)/tests/tokmill_crash: $(BUILD)/tests/crash.o $(BUILD)/src/cmd/main.o $(BUILD)/libtokmill.a
	@$(CC) $(SANITIZE) $(CRASH_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(LDLIBS)
test: $(BUILD)/tests/tokmill_crash

# ONLY='NAME...' runs some of the tests: test_pool, test_cuda_asan, test_default.sh, cli_usage ...
test: $(BIN) $(TESTS)
	@PROGRAMS='$(sort $(notdir $(TESTS)))' tests/run.sh $(BUILD) $(ONLY)

# The suite again with sanitizers: address (leaks included, on every way out) and undefined behaviour; then threads, for the
# tests that have some.  Their own code makes gcc warn of what is not there, so warnings are left to the plain build.
CHECKED := --no-print-directory OPT=-O1 WARN=-w
asan:
	@ASAN_OPTIONS=exitcode=99:detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(MAKE) $(CHECKED) BUILD=$(BUILD)/asan SANITIZE='-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer' test
tsan:
	@$(MAKE) $(CHECKED) BUILD=$(BUILD)/tsan SANITIZE='-fsanitize=thread -fno-omit-frame-pointer' ONLY='$(THREADED)' test
THREADED := test_pool test_pace test_device test_sample test_linear test_forward test_engine $(addprefix cli_,bad_lines formats interrupt results)

# Bytes of strangers: a fuzzer for each reader (tests/fuzz/, needs clang), FUZZ_SECONDS each, three at a time.  What they find is kept
# in build/fuzz/crashes/, what they learn in build/fuzz/corpus/.  The suite runs them briefly, in its half with sanitizers.
FUZZ_SECONDS ?= 60
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz:
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_LEARN=1 tests/test_fuzz.sh $(BUILD)
fuzzers:
	@$(MAKE) --no-print-directory CC=clang OPT=-O1 CUDA=no BUILD=$(BUILD)/fuzz \
	SANITIZE='-fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all' fuzz_programs
fuzz_programs: $(FUZZERS)
$(BUILD)/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/libreaders.a
	@$(CC) $(SANITIZE) -fsanitize=fuzzer -o $@ $^ $(LIBS)
$(BUILD)/libreaders.a: $(filter $(BUILD)/src/base/% $(BUILD)/src/data/% $(BUILD)/src/model/%,$(LIB))
	@rm -f $@
	@ar rcs $@ $^
$(BUILD)/tests/fuzz/fuzz_plans.o: CFLAGS += -isystem tests/cudaemu/shim

# Tokens a second on the Qwen3-0.6B shape, beside the machine's measured peaks.
bench: $(BIN)
	@tests/bench.sh $(BUILD)

# Shards on a real Slurm of three nodes on this machine, installed first where it is missing (as root).  In `make test` if it is there.
SLURM := slurmctld slurmd slurm-client munge
test-cluster: $(BIN)
	@dpkg-query -W $(SLURM) >/dev/null 2>&1 || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(SLURM); } >/dev/null
	@PROGRAMS= tests/run.sh $(BUILD) test_cluster.sh

# On a machine with a GPU, in at most 9 minutes: the table of ops against its reference, the embedded default, and how fast all
# of it is; results/gpu-DATE/.  test_cuda is the suite's, on the GPU instead of the emulation.
gpu:
	@tests/gpu.sh $(BUILD)
$(BUILD)/gpu/test_cuda: $(BUILD)/tests/gpu.o
$(BUILD)/gpu/%: $(BUILD)/tests/%.o $(BUILD)/libtokmill.a
	@mkdir -p $(@D)
	@$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS) -lcmocka
$(BUILD)/tests/test_cuda.o $(BUILD)/tests/perf_cuda.o: CFLAGS += -isystem $(CUDA)/include

# The committed manual page and completion, made anew from the tables (needs scdoc).
man: $(BIN)
	@$(BIN) man | scdoc > src/cmd/tokmill.1
	@$(BIN) completion > src/cmd/tokmill.bash

install: $(BIN)
	@install -D $(BIN) $(DESTDIR)$(PREFIX)/bin/tokmill
	@install -Dm644 src/cmd/tokmill.1 $(DESTDIR)$(PREFIX)/share/man/man1/tokmill.1
	@install -Dm644 src/cmd/tokmill.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tokmill
	@install -Dm644 datasets/hardware.csv $(DESTDIR)$(PREFIX)/share/tokmill/hardware.csv

clean:
	@rm -rf $(BUILD)

-include $(OBJ:.o=.d) $(TESTS:=.d) $(SLOW:tokmill_slow=slow.d) $(wildcard $(BUILD)/tests/fuzz/*.d)
