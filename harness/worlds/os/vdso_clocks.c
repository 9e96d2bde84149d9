/* The clocks of a skewed process: what its vDSO answers once `vdso.py` patched it.
 *
 * Linked flat at address 0 and copied as it is into the vDSO's last page, so: no libc,
 * no data relocations, everything relative to the instruction pointer. `jmp`s placed at
 * the kernel's own __vdso_clock_gettime, __vdso_gettimeofday and __vdso_time lead here.
 * True time comes from the system call, since the kernel's fast path has lost its first
 * bytes to the jump.
 *
 * Theory. A skewed clock is a line: fake = fake_at_anchor + (true - anchor) * rate.
 * Each clock id has an anchor of its own, because BOOTTIME and MONOTONIC may be days
 * apart, and TAI is 37 s from REALTIME; a common anchor would multiply that by the rate.
 * A line that returns is followed until it meets true time, and true time from there:
 * the later of the two for a clock that is ahead, the earlier for one that is behind.
 * Both rise, so what is shown does, and no writer is needed at that moment.
 *
 * The block holds the lines twice. The lowest bit of `version` says which copy counts.
 * Its writer, in another process, counts up by two: the other copy is being written.
 * Then it fills that, and counts up by one: now it counts. So a writer killed half way
 * leaves a whole old setting, and no reader ever waits for anyone. A reader begins
 * again, the true time included, if it finds the version changed after it has read.
 *
 * The true time included, since otherwise: a reader asks the kernel for it, and loses
 * its processor on the way back. The clock is made faster, and changed once more. The
 * reader goes on and follows the faster line back from its anchor to the older true
 * time: to less than it has shown before.
 *
 * An anchor may lie ahead: until then the copy that was in use before counts. So a
 * clock can be slowed down and never run backwards, though its writer cannot know at
 * which moment a write is seen: it is seen before it matters. The writer leaves that
 * copy alone until the anchor has passed.
 */

typedef long i64;
typedef unsigned long u64;

struct timespec { i64 s, ns; };
struct timeval { i64 s, us; };
struct line { i64 anchor_ns, fake_ns, rate_q32, returns; };
struct setting { u64 on; struct line lines[7]; };
struct block { u64 version; struct setting settings[2]; };

/* vdso_clocks.ld puts it behind the code. */
extern volatile struct block clock_block __attribute__((visibility("hidden")));

enum { SYS_GETTIMEOFDAY = 96, SYS_CLOCK_GETTIME = 228 };
enum { NS_PER_S = 1000000000, NS_PER_US = 1000 };

/* Clock id -> its line + 1, four bits each; 0 for ids (CPU time) that stay true. */
#define LINE(id, line) ((u64)(line + 1) << (4 * id))
#define LINES (LINE(0, 0) /* REALTIME */ | LINE(1, 1) /* MONOTONIC */ \
             | LINE(4, 2) /* MONOTONIC_RAW */ | LINE(5, 3) /* REALTIME_COARSE */ \
             | LINE(6, 4) /* MONOTONIC_COARSE */ | LINE(7, 5) /* BOOTTIME */ \
             | LINE(11, 6) /* TAI */)

static inline i64 system_call(i64 number, i64 first, i64 second)
{
    i64 result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(first), "S"(second)
                     : "rcx", "r11", "memory");
    return result;
}

static inline i64 fake_ns(const volatile struct line *line, i64 true_ns)
{
    i64 elapsed_ns = true_ns - line->anchor_ns;
    i64 ns = line->fake_ns + (i64)(((__int128)elapsed_ns * line->rate_q32) >> 32);
    if (line->returns && (line->fake_ns > line->anchor_ns) == (ns < true_ns))
        return true_ns;
    return ns;
}

__attribute__((used, noinline)) int
skewed_clock_gettime(int id, struct timespec *time)
{
    u64 line = (unsigned)id < 16 ? LINES >> (4 * id) & 15 : 0;
    u64 version;
    i64 ns;
    do {
        version = clock_block.version;
        int error = (int)system_call(SYS_CLOCK_GETTIME, id, (i64)time);
        if (error || !line)
            return error;
        i64 true_ns = time->s * NS_PER_S + time->ns;
        const volatile struct setting *now = &clock_block.settings[version & 1];
        if (now->on && true_ns < now->lines[line - 1].anchor_ns)
            now = &clock_block.settings[~version & 1];
        ns = now->on ? fake_ns(&now->lines[line - 1], true_ns) : true_ns;
    } while (version != clock_block.version);
    time->s = ns / NS_PER_S;
    time->ns = ns % NS_PER_S;
    if (time->ns < 0) { /* before 1970: round down, not towards zero */
        time->s -= 1;
        time->ns += NS_PER_S;
    }
    return 0;
}

__attribute__((used)) int skewed_gettimeofday(struct timeval *time, void *zone)
{
    struct timespec now;
    if (zone)
        system_call(SYS_GETTIMEOFDAY, 0, (i64)zone);
    if (time) {
        skewed_clock_gettime(0, &now);
        time->s = now.s;
        time->us = now.ns / NS_PER_US;
    }
    return 0;
}

__attribute__((used)) i64 skewed_time(i64 *seconds)
{
    struct timespec now;
    skewed_clock_gettime(0, &now);
    if (seconds)
        *seconds = now.s;
    return now.s;
}
