// Part of runtime.cpp: a launch that does not end is ended.
#pragma once
#ifdef __linux__
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

namespace ebm_host {

#ifdef __linux__
static const int ALARM = SIGRTMAX - 5;

static void on_alarm(int) { fail(nullptr, "still running after %g seconds", how->seconds); }

struct Watchdog {  // counts the time of this thread alone, so a busy machine does not matter
  timer_t timer;
  struct sigaction before;
  bool set;
  explicit Watchdog(double seconds) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_NODEFER;  // on_alarm never returns
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    event.sigev_signo = ALARM;
    set = seconds > 0 && !sigaction(ALARM, &action, &before) && !timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    if (!set) return;
    struct itimerspec when;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = (time_t)seconds;
    when.it_value.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9);
    timer_settime(timer, 0, &when, nullptr);
  }
  ~Watchdog() {
    if (!set) return;
    timer_delete(timer);
    sigaction(ALARM, &before, nullptr);
  }
};
#else
struct Watchdog {
  explicit Watchdog(double) {}
};
#endif

}  // namespace ebm_host
