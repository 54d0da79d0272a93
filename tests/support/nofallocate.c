/* posix_fallocate(3) as on a file system or in a sandbox without fallocate: preloaded, it answers
   the error number NOFALLOCATE_ERRNO. */

#include <stdlib.h>
#include <sys/types.h>

int posix_fallocate(int fd, off_t offset, off_t length)
{
    (void)fd, (void)offset, (void)length;
    return atoi(getenv("NOFALLOCATE_ERRNO"));
}

int posix_fallocate64(int fd, off_t offset, off_t length)
{
    return posix_fallocate(fd, offset, length);
}
