# The emulation of a GPU for the tests, in three variants: plain, asan (AddressSanitizer and UBSan) and tsan (needs clang++).
# The core is never instrumented; kernels and tests are.  With the toolkit its headers are used, without it our shim.
#
#   $(call emu_program,NAME,SOURCES,LIBS)   programs NAME, NAME_asan and NAME_tsan in $(BUILD)/tests from .cu, .cpp and .c
#                                           files, which are compiled for each, and libraries, which are not
#   $(EMU_DEVICE)                           the sources of the CUDA device, for SOURCES
#   make emu_nvcc                           nvcc over every .cu: a spill or local memory is an error, and so is another table than
#                                           tests/golden/cuda_registers.tsv
#   make emu_golden                         on a machine with a GPU: tests/golden/cuda_conformance.txt
CUDA     ?= /usr/local/cuda
CXX      ?= g++
CLANGXX  ?= clang++
NVCC     ?= $(CUDA)/bin/nvcc

EMU_VARIANTS := plain asan $(if $(shell command -v $(CLANGXX)),tsan)
EMU_CORE     := $(wildcard tests/cudaemu/*.cpp)
EMU_DEVICE   := $(filter-out %/absent.c %/library.c,$(wildcard kernels/cuda/*.cu kernels/cuda/*.c))
EMU_INC      := -Isrc -I. -Itests/cudaemu $(if $(wildcard $(CUDA)/include/cublasLt.h),-isystem $(CUDA)/include,-Itests/cudaemu/shim)
EMU_FLAGS    := -g -O2 -ffp-contract=off -fno-strict-aliasing -MMD -MP $(EMU_INC)
EMU_CXXFLAGS := -std=c++17 -Wall -Wextra -Wshadow -Werror -fno-exceptions -fno-rtti $(EMU_FLAGS)
EMU_LIBS     := -lcmocka -rdynamic -ldl -lpthread -lm

EMU_CXX_plain := $(CXX)
EMU_CXX_asan  := $(CXX)
EMU_CXX_tsan  := $(CLANGXX)
EMU_CC_plain  := $(CC)
EMU_CC_asan   := $(CC)
EMU_CC_tsan   := clang
EMU_SAN_asan  := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
EMU_SAN_tsan  := -fsanitize=thread
EMU_DEF_asan  := -DEMU_ASAN
EMU_DEF_tsan  := -DEMU_TSAN
EMU_CORE_tsan := -fno-builtin
EMU_SUFFIX_asan := _asan
EMU_SUFFIX_tsan := _tsan

define emu_variant
$$(BUILD)/cudaemu/$1/tests/cudaemu/%.o: tests/cudaemu/%.cpp
	@mkdir -p $$(@D)
	@$$(EMU_CXX_$1) $$(EMU_CXXFLAGS) $$(EMU_DEF_$1) $$(EMU_CORE_$1) -c -o $$@ $$<
$$(BUILD)/cudaemu/$1/%.o: %.cu
	@mkdir -p $$(@D)
	@$$(EMU_CXX_$1) -x c++ $$(EMU_CXXFLAGS) $$(EMU_DEF_$1) $$(EMU_SAN_$1) -c -o $$@ $$<
$$(BUILD)/cudaemu/$1/%.o: %.cpp
	@mkdir -p $$(@D)
	@$$(EMU_CXX_$1) $$(EMU_CXXFLAGS) $$(EMU_DEF_$1) $$(EMU_SAN_$1) -c -o $$@ $$<
$$(BUILD)/cudaemu/$1/%.o: %.c
	@mkdir -p $$(@D)
	@$$(EMU_CC_$1) -std=c11 -Wall -Wextra -Wshadow -Werror $$(EMU_FLAGS) $$(EMU_DEF_$1) $$(EMU_SAN_$1) -c -o $$@ $$<
$$(BUILD)/cudaemu/$1/libcudaemu.a: $$(EMU_CORE:%.cpp=$$(BUILD)/cudaemu/$1/%.o)
	@rm -f $$@
	@ar rcs $$@ $$^
-include $$(wildcard $$(BUILD)/cudaemu/$1/*/*.d $$(BUILD)/cudaemu/$1/*/*/*.d)
endef
$(foreach v,$(EMU_VARIANTS),$(eval $(call emu_variant,$v)))

define emu_program_variant
TESTS += $$(BUILD)/tests/$1$$(EMU_SUFFIX_$3)
$$(BUILD)/tests/$1$$(EMU_SUFFIX_$3): $$(patsubst %,$$(BUILD)/cudaemu/$3/%.o,$$(basename $2)) $$(BUILD)/cudaemu/$3/libcudaemu.a $$(filter %.a,$4)
	@mkdir -p $$(@D)
	@$$(EMU_CXX_$3) $$(EMU_SAN_$3) -o $$@ $$^ $$(filter-out %.a,$4) $$(EMU_LIBS)
endef
emu_program = $(foreach v,$(if $(SANITIZE),,$(EMU_VARIANTS)),$(eval $(call emu_program_variant,$1,$2,$v,$3)))

# ---- nvcc ----

EMU_ARCHS  := 80 90 90a
EMU_CU     := $(filter %.cu,$(EMU_DEVICE)) tests/cudaemu/conformance.cu
EMU_TABLES := $(EMU_ARCHS:%=$(BUILD)/cuda/sm_%/registers.tsv)

# The table: kernel, arch, registers, bytes of static shared memory, bytes of stack.
define emu_arch
$$(BUILD)/cuda/sm_$1/%.cubin: %.cu
	@mkdir -p $$(@D)
	@$$(NVCC) -std=c++17 -O3 -Isrc -I. -MD -MF $$(@:.cubin=.d) -cubin -gencode arch=compute_$1,code=sm_$1 \
		-Xptxas -v,-warn-spills,-warn-lmem-usage -Xcompiler -Wall,-Wextra -o $$@ $$< >$$@.log 2>&1 || { cat $$@.log; rm -f $$@; exit 1; }
$$(BUILD)/cuda/sm_$1/registers.tsv: $$(EMU_CU:%.cu=$$(BUILD)/cuda/sm_$1/%.cubin)
	@! grep -i warning $$(^:=.log)
	@awk 'BEGIN { OFS = "\t" } \
		/Compiling entry function/ { split($$$$0, q, "\047"); name = q[2]; arch = q[4] } \
		/bytes stack frame/ { stack = $$$$1 } \
		/Used [0-9]+ registers/ { regs = $$$$5; smem = match($$$$0, /[0-9]+ bytes smem/) ? substr($$$$0, RSTART, RLENGTH) + 0 : 0; \
			print name, arch, regs, smem, stack }' $$(^:=.log) | c++filt | LC_ALL=C sort >$$@
-include $$(wildcard $$(BUILD)/cuda/sm_$1/*/*.d $$(BUILD)/cuda/sm_$1/*/*/*.d)
endef
$(foreach a,$(EMU_ARCHS),$(eval $(call emu_arch,$a)))

.PHONY: emu_nvcc emu_golden
emu_nvcc: $(EMU_TABLES)
	@{ $(NVCC) --version | sed -n 's/.*release \([0-9.]*\),.*/# nvcc \1/p'; LC_ALL=C sort $^; } >$(BUILD)/cuda/registers.tsv
	@diff tests/golden/cuda_registers.tsv $(BUILD)/cuda/registers.tsv || \
		{ echo "the registers have changed (>); if that is meant: cp $(BUILD)/cuda/registers.tsv tests/golden/cuda_registers.tsv"; exit 1; }

emu_golden: tests/cudaemu/conformance.cu
	@mkdir -p $(BUILD)/cuda
	@$(NVCC) -std=c++17 -Isrc -I. -arch=native -o $(BUILD)/cuda/conformance $<
	@$(BUILD)/cuda/conformance >tests/golden/cuda_conformance.txt
