/* Makes a processor say that it is another one, for benchmarks/processors.py: Linux on x86-64 with CPUID faulting.
 *
 * The kernel is asked to let the instruction CPUID fault (arch_prctl ARCH_CPUID_SET); the handler asks the
 * processor, edits the answer and goes on behind the instruction. Loaded by LD_PRELOAD; with
 * PROCESSOR=no_avx512 AVX-512 and what came after it are hidden, with PROCESSOR=zen3 the maker, model and caches
 * are an AMD Zen 3's too. The C library has asked before, so it chooses as ever.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_PRCTL 158
#define ARCH_CPUID_SET 0x1012
#define LEAF7_EBX (1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31)
#define LEAF7_ECX (1u << 1 | 1u << 6 | 1u << 8 | 1u << 11 | 1u << 12 | 1u << 14)
#define LEAF7_EDX (1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25)
#define LEAF7_1_EAX (1u << 4 | 1u << 5 | 1u << 21 | 1u << 23)

static int zen3;

static long fault(long on) { /* 0: CPUID faults; no call of the C library, which may not be used in the handler */
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "0"(ARCH_PRCTL), "D"(ARCH_CPUID_SET), "S"(!on) : "rcx", "r11", "memory");
  return result;
}

static void ask(unsigned leaf, unsigned sub, unsigned *r) {
  __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(sub));
}

static void hide_avx512(unsigned leaf, unsigned sub, unsigned *r) {
  if (leaf == 7 && sub == 0) r[1] &= ~LEAF7_EBX, r[2] &= ~LEAF7_ECX, r[3] &= ~LEAF7_EDX;
  if (leaf == 7 && sub == 1) r[0] &= ~LEAF7_1_EAX, r[3] = 0;
}

static void name(unsigned most, unsigned *r) {
  r[0] = most;
  memcpy(&r[1], "Auth", 4), memcpy(&r[3], "enti", 4), memcpy(&r[2], "cAMD", 4);
}

static void say_zen3(unsigned leaf, unsigned sub, unsigned *r) {
  static const unsigned caches[4][4] = {{0x4121, 0x01C0003F, 0x3F, 0},
                                        {0x4122, 0x01C0003F, 0x3F, 0},
                                        {0x4143, 0x01C0003F, 0x3FF, 2},
                                        {0x3C163, 0x03C0003F, 0x7FFF, 1}};
  if (leaf == 0) name(0x10, r);
  if (leaf == 1) r[0] = 0x00A20F12;
  if (leaf == 2 || leaf == 4) memset(r, 0, 16);
  if (leaf == 0x80000000) name(0x8000001F, r);
  if (leaf == 0x80000001) r[2] |= 1u << 22; /* leaf 0x8000001D tells of caches */
  if (leaf == 0x80000005) r[0] = r[1] = 0xff40ff40, r[2] = r[3] = 0x20080140;
  if (leaf == 0x80000006) r[0] = 0x48002200, r[1] = 0x68004200, r[2] = 0x02006140, r[3] = 0x01009140;
  if (leaf == 0x8000001D) sub < 4 ? memcpy(r, caches[sub], 16) : memset(r, 0, 16);
}

static void answer(int sig, siginfo_t *info, void *context) {
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *at = (const unsigned char *)g[REG_RIP];
  if (at[0] != 0x0f || at[1] != 0xa2) { /* another fault: as without this library */
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  unsigned r[4], leaf = g[REG_RAX], sub = g[REG_RCX];
  fault(0), ask(leaf, sub, r), fault(1);
  hide_avx512(leaf, sub, r);
  if (zen3) say_zen3(leaf, sub, r);
  g[REG_RAX] = r[0], g[REG_RBX] = r[1], g[REG_RCX] = r[2], g[REG_RDX] = r[3], g[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
  const char *processor = getenv("PROCESSOR");
  if (!processor) return;
  zen3 = !strcmp(processor, "zen3");
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, 0);
  if (fault(1)) write(2, "this processor or kernel has no CPUID faulting\n", 47), _exit(3);
}
