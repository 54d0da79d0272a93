/* Storage in a network: each call that asks the source for something waits for a millisecond.
 *
 * Loaded by LD_PRELOAD into programs that know nothing of it. SLOW_STORAGE is the source's path.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS 4096
static char of_source[FDS];

static int is_source(int folder, const char *path) {
    const char *source = getenv("SLOW_STORAGE");
    if (source == NULL) return 0;
    if (path[0] == '/') return strncmp(path, source, strlen(source)) == 0;
    return folder >= 0 && folder < FDS && of_source[folder];
}
static void wait_if(int slow) { if (slow) usleep(1000); }
static int noted(int fd, int slow) { if (fd >= 0 && fd < FDS) of_source[fd] = slow; return fd; }
#define REAL(name) ({ static void *real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

#define OPENAT(name) int name(int folder, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
    int slow = is_source(folder, path); wait_if(slow); \
    return noted(((int (*)(int, const char *, int, mode_t))REAL(name))(folder, path, flags, mode), slow); }
#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
    int slow = is_source(-1, path); wait_if(slow); \
    return noted(((int (*)(const char *, int, mode_t))REAL(name))(path, flags, mode), slow); }
#define STAT(name, kind) int name(const char *path, struct kind *found) { \
    wait_if(is_source(-1, path)); \
    return ((int (*)(const char *, void *))REAL(name))(path, found); }
#define FSTATAT(name, kind) int name(int folder, const char *path, struct kind *found, int flags) { \
    wait_if(is_source(folder, path)); \
    return ((int (*)(int, const char *, void *, int))REAL(name))(folder, path, found, flags); }
#define READ(name) ssize_t name(int fd, void *data, size_t size) { \
    wait_if(fd >= 0 && fd < FDS && of_source[fd]); \
    return ((ssize_t (*)(int, void *, size_t))REAL(name))(fd, data, size); }
#define PREAD(name) ssize_t name(int fd, void *data, size_t size, off_t at) { \
    wait_if(fd >= 0 && fd < FDS && of_source[fd]); \
    return ((ssize_t (*)(int, void *, size_t, off_t))REAL(name))(fd, data, size, at); }

OPENAT(openat) OPENAT(openat64) OPEN(open) OPEN(open64)
STAT(stat, stat) STAT(stat64, stat64) STAT(lstat, stat) STAT(lstat64, stat64)
FSTATAT(fstatat, stat) FSTATAT(fstatat64, stat64)
READ(read) PREAD(pread) PREAD(pread64)

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
    wait_if(is_source(folder, path));
    return ((int (*)(int, const char *, int, unsigned, struct statx *))REAL(statx))(folder, path, flags, mask, found);
}
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t size, unsigned flags) {
    wait_if(from >= 0 && from < FDS && of_source[from]);
    return ((ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned))REAL(copy_file_range))(from, at, to, to_at, size, flags);
}
int close(int fd) { noted(fd, 0); return ((int (*)(int))REAL(close))(fd); }
