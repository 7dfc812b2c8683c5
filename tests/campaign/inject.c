/* Shifts the clock of one process and delays its writes to the disk, without its knowledge. Loaded with LD_PRELOAD.
   The faults are read from the file that CAMPAIGN_FAULT_FILE names; it may change at any time (its layout is in
   fault_file.py). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct fault_file {
    volatile int64_t shift_us;
    volatile int32_t sync_delay_ms;
};

static const struct fault_file nothing;
static const struct fault_file *fault_file = &nothing;

__attribute__((constructor)) static void open_fault_file(void) {
    const char *path = getenv("CAMPAIGN_FAULT_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *fault_file, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) fault_file = found;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t us = now->tv_sec * INT64_C(1000000) + now->tv_nsec / 1000 + fault_file->shift_us;
        now->tv_nsec = us % 1000000 * 1000 + now->tv_nsec % 1000;
        now->tv_sec = us / 1000000;
    }
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int status = clock_gettime(CLOCK_REALTIME, &precise);
    *now = (struct timeval){.tv_sec = precise.tv_sec, .tv_usec = precise.tv_nsec / 1000};
    return status;
}

time_t time(time_t *place) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (place != NULL) *place = precise.tv_sec;
    return precise.tv_sec;
}

static int delayed(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int32_t ms = fault_file->sync_delay_ms;
    if (ms > 0) nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
    return real(file);
}

int fsync(int file) { return delayed("fsync", file); }

int fdatasync(int file) { return delayed("fdatasync", file); }
