// A library that the dynamic linker puts before the C library (LD_PRELOAD). It numbers the system calls that change what is
// at a path or under it, and lets one of them fail, or the process die in it.
//
//   FAULT_PATH  a prefix of paths: calls elsewhere are not counted
//   FAULT_LOG   a file that gets a line a call: number, name, path
//   FAULT_AT    the call, from 1
//   FAULT_KIND  what happens there:
//                 kill    the process dies before the call
//                 torn    the process dies when a write is half done
//                 eio     the call fails, the later ones do not
//                 dead    it fails, and so does every later one
//                 full    it and every later one that needs space fail; the first write is half done
//
// Child processes are left alone.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { NONE, KILL, TORN, EIO_ONCE, DEAD, FULL };

static char prefix[PATH_MAX];
static size_t prefix_length;
static int log_fd = -1;
static long at;
static enum kind kind;
static atomic_long calls;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static char *copy(const char *name) {
  const char *value = getenv(name);
  return value ? strdup(value) : NULL;
}

__attribute__((constructor)) static void start(void) {
  char *path = copy("FAULT_PATH"), *log = copy("FAULT_LOG"), *number = copy("FAULT_AT"), *name = copy("FAULT_KIND");
  if (path) {
    strncpy(prefix, path, sizeof prefix - 1);
    prefix_length = strlen(prefix);
  }
  if (log) log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (number) at = atol(number);
  const char *names[] = {"", "kill", "torn", "eio", "dead", "full"};
  for (int i = 1; name && i < 6; i++)
    if (!strcmp(name, names[i])) kind = i;
  unsetenv("LD_PRELOAD");
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// The errno with which the call fails; 0: it does not. `space`: whether it needs some.
static int fault(const char *call, const char *path, int space) {
  if (!prefix_length || strncmp(path, prefix, prefix_length)) return 0;
  long number = atomic_fetch_add(&calls, 1) + 1;
  if (log_fd >= 0) dprintf(log_fd, "%ld %s %s\n", number, call, path);
  if (!at || number < at) return 0;
  switch (kind) {
    case KILL:
      die();
      return 0;
    case EIO_ONCE:
      return number == at ? EIO : 0;
    case DEAD:
      return EIO;
    case FULL:
      return space ? ENOSPC : 0;
    default:
      return 0;
  }
}

static const char *of_fd(int fd, char *buffer) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, buffer, PATH_MAX - 1);
  buffer[length < 0 ? 0 : length] = 0;
  return buffer;
}

static const char *of_at(int dir, const char *path, char *buffer) {
  if (path[0] == '/' || dir == AT_FDCWD) return path;
  size_t length = strlen(of_fd(dir, buffer));
  snprintf(buffer + length, PATH_MAX - length, "/%s", path);
  return buffer;
}

#define FAIL(call, path, space) \
  do { \
    int error = fault(call, path, space); \
    if (error) { \
      errno = error; \
      return -1; \
    } \
  } while (0)

// Only an open that makes or empties a file changes something.
#define OPEN(call, path, flags) \
  do { \
    if ((flags) & (O_CREAT | O_TRUNC)) FAIL(call, path, access(path, F_OK) != 0); \
  } while (0)

#define MODE(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list more; \
    va_start(more, flags); \
    mode = va_arg(more, mode_t); \
    va_end(more); \
  }

int open(const char *path, int flags, ...) {
  MODE(flags)
  OPEN("open", path, flags);
  return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE(flags)
  OPEN("open", path, flags);
  return REAL(open64)(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...) {
  MODE(flags)
  char buffer[PATH_MAX];
  OPEN("open", of_at(dir, path, buffer), flags);
  return REAL(openat)(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) {
  MODE(flags)
  char buffer[PATH_MAX];
  OPEN("open", of_at(dir, path, buffer), flags);
  return REAL(openat64)(dir, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  char buffer[PATH_MAX];
  long before = atomic_load(&calls);
  int error = fault("write", of_fd(fd, buffer), 1);
  int here = at && before < at && atomic_load(&calls) == at;
  if (here && count > 1 && (kind == TORN || kind == FULL)) {
    ssize_t half = REAL(write)(fd, bytes, count / 2);
    if (kind == TORN) die();
    return half;
  }
  if (error) {
    errno = error;
    return -1;
  }
  return REAL(write)(fd, bytes, count);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
  char buffer[PATH_MAX];
  FAIL("copy_file_range", of_fd(to, buffer), 1);
  return REAL(copy_file_range)(from, from_at, to, to_at, count, flags);
}

int fsync(int fd) {
  char buffer[PATH_MAX];
  FAIL("fsync", of_fd(fd, buffer), 0);
  return REAL(fsync)(fd);
}

int fdatasync(int fd) {
  char buffer[PATH_MAX];
  FAIL("fdatasync", of_fd(fd, buffer), 0);
  return REAL(fdatasync)(fd);
}

int ftruncate64(int fd, off64_t length) {
  char buffer[PATH_MAX];
  FAIL("ftruncate", of_fd(fd, buffer), 0);
  return REAL(ftruncate64)(fd, length);
}

int flock(int fd, int operation) {
  char buffer[PATH_MAX];
  FAIL("flock", of_fd(fd, buffer), 0);
  return REAL(flock)(fd, operation);
}

int rename(const char *from, const char *to) {
  FAIL("rename", to, 0);
  return REAL(rename)(from, to);
}

int mkdir(const char *path, mode_t mode) {
  FAIL("mkdir", path, 1);
  return REAL(mkdir)(path, mode);
}

int rmdir(const char *path) {
  FAIL("rmdir", path, 0);
  return REAL(rmdir)(path);
}

int unlink(const char *path) {
  FAIL("unlink", path, 0);
  return REAL(unlink)(path);
}

int unlinkat(int dir, const char *path, int flags) {
  char buffer[PATH_MAX];
  FAIL("unlink", of_at(dir, path, buffer), 0);
  return REAL(unlinkat)(dir, path, flags);
}

int chmod(const char *path, mode_t mode) {
  FAIL("chmod", path, 0);
  return REAL(chmod)(path, mode);
}

int fchmod(int fd, mode_t mode) {
  char buffer[PATH_MAX];
  FAIL("fchmod", of_fd(fd, buffer), 0);
  return REAL(fchmod)(fd, mode);
}
