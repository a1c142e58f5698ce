# make [CUDA=no] | make test | make asan | make bench | make man | make install PREFIX= DESTDIR= | make clean
BUILD   ?= build
CC      ?= gcc
OPT     ?= -O2
PREFIX  ?= /usr/local
VERSION := 0.1.0

PKGS     := libzstd jansson libpcre2-8 libutf8proc zlib
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-format-truncation -Werror
ALLFLAGS  = -std=c11 -g $(OPT) $(WARN) -MMD -MP -Isrc -I. -DTOKMILL_VERSION='"$(VERSION)"' $(SANITIZE) $(CFLAGS)
LIBS     := -lzstd -ljansson -lpcre2-8 -lutf8proc -lz -ldnnl -ldl -lpthread -lm

# kernels/cpu/vec_*.c are compiled once for each instruction set; the device picks at run time.
AVX2   := -mavx2 -mfma -mf16c
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16

# AMX is no tier of its own; its products stand apart.
$(BUILD)/kernels/cpu/panel_amx.o: CFLAGS += $(AVX512) -mamx-tile -mamx-bf16 -mamx-int8

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
OBJ   := $(patsubst %,$(BUILD)/%.o,$(SRC:.c=)) $(foreach t,base avx2 avx512,$(VEC:%.c=$(BUILD)/%.$t.o))
LIB   := $(filter-out $(BUILD)/src/cmd/main.o,$(OBJ))
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(filter-out tests/test_cuda.c,$(wildcard tests/test_*.c)))
BIN   := $(BUILD)/tokmill

.PHONY: all test asan bench man install clean
.SECONDARY:
all: $(BIN)

include tests/cudaemu/emu.mk
EMU_REST := $(BUILD)/libtokmill.a $(LIBS)
$(call emu_program,test_cudaemu,tests/test_cudaemu.cpp tests/cudaemu/conformance.cu tests/cudaemu/misuse.cu tests/cudaemu/planted.cu)
$(call emu_program,test_cudaemu_products,tests/test_cudaemu_products.cpp)
$(call emu_program,test_cuda,tests/test_cuda.c $(EMU_DEVICE),$(EMU_REST))
$(call emu_program,test_cuda_rows,tests/cudaemu/test_rows.c kernels/cuda/rows.cu kernels/cuda/rope.cu,$(EMU_REST))
$(call emu_program,test_cuda_sample,tests/cudaemu/test_sample.c kernels/cuda/sample.cu,$(EMU_REST))

# The whole program, its CUDA device on the emulation.
test: $(if $(SANITIZE),,$(BUILD)/cudaemu/tokmill)
$(BUILD)/cudaemu/tokmill: $(BUILD)/src/cmd/main.o $(patsubst %,$(BUILD)/cudaemu/plain/%.o,$(basename $(EMU_DEVICE))) $(BUILD)/cudaemu/plain/libcudaemu.a $(BUILD)/libtokmill.a
	@$(CXX) -o $@ $^ $(LIBS) $(EMU_LIBS)

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

$(BUILD)/libtokmill.a: $(LIB)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/libtokmill.a
	@$(CC) $(SANITIZE) -o $@ $^ $(LDLIBS) -lcmocka

test: $(BIN) $(TESTS)
	@tests/run.sh $(BUILD)

# The whole suite once more under AddressSanitizer and UndefinedBehaviorSanitizer, leaks included.
asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan OPT=-O1 SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-maybe-uninitialized' test

# Tokens a second on the Qwen3-0.6B shape, beside the machine's measured peaks.
bench: $(BIN)
	@tests/bench.sh $(BUILD)

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

-include $(OBJ:.o=.d) $(TESTS:=.d)
