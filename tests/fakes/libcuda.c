/* A stand-in for NVIDIA's driver whose "GPU" is the host's memory: it shows that calls arrive as they were meant.
 *
 * Copies and allocations fail without a context on the calling thread, as the real one's do. The capability comes from
 * FAKE_CUDA_CAPABILITY (two digits, default 89); FAKE_CUDA_DEVICES is how many GPUs there are (default 1);
 * FAKE_CUDA_BLOCKS is how many blocks of memory the GPU has room for. fake_held() tells what was not given back.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local void *current = NULL;
static int context_of_device = 0;

static int held = 0, blocks = 0;

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201 };

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int fake_held(void) { return held; }
int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_CUDA_DEVICES", 1); return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetName(char *name, int length, int device) { (void)device; strncpy(name, "Fake GPU", length); return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)24 << 30; return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    int capability = number("FAKE_CUDA_CAPABILITY", 89);
    if (attribute == 75) *value = capability / 10;
    else if (attribute == 76) *value = capability % 10;
    else if (attribute == 16) *value = 128;
    else return INVALID_VALUE;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = &context_of_device; held++; return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; held--; return OK; }
int cuCtxSetCurrent(void *context) { current = context; return context == &context_of_device ? OK : INVALID_CONTEXT; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (!current) return INVALID_CONTEXT;
    if (blocks >= number("FAKE_CUDA_BLOCKS", 1 << 20)) return OUT_OF_MEMORY;
    held++, blocks++;
    *address = (uint64_t)(uintptr_t)malloc(size);
    return OK;
}
int cuMemFree_v2(uint64_t address) {
    held--, blocks--;
    free((void *)(uintptr_t)address);
    return current ? OK : INVALID_CONTEXT;
}
int cuMemAllocHost_v2(void **address, size_t size) { *address = malloc(size); held++; return current ? OK : INVALID_CONTEXT; }
int cuMemFreeHost(void *address) { free(address); held--; return current ? OK : INVALID_CONTEXT; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    if (!current || !stream) return INVALID_CONTEXT;
    memcpy((void *)(uintptr_t)to, from, size);
    return OK;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    if (!current || !stream) return INVALID_CONTEXT;
    memcpy(to, (void *)(uintptr_t)from, size);
    return OK;
}
int cuStreamCreate(void **stream, unsigned flags) {
    if (flags != 1) return INVALID_VALUE;
    *stream = malloc(1);
    held++;
    return current ? OK : INVALID_CONTEXT;
}
int cuStreamDestroy_v2(void *stream) { free(stream); held--; return OK; }
int cuStreamSynchronize(void *stream) { return current && stream ? OK : INVALID_CONTEXT; }
int cuGetErrorString(int status, const char **text) {
    *text = status == INVALID_CONTEXT ? "invalid device context" : status == OUT_OF_MEMORY ? "out of memory" : "invalid argument";
    return OK;
}
