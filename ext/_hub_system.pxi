# What the hub needs of the operating system. Included by _hub.pyx.

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
    uint32_t EPOLLIN, EPOLLOUT
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int op, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int count, int milliseconds)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT, MSG_NOSIGNAL
    Py_ssize_t recv(int fd, void* data, size_t size, int flags)
    Py_ssize_t send(int fd, const void* data, size_t size, int flags)


cdef object os_error(int number):
    """What the system said: ConnectionResetError, BrokenPipeError ..."""
    return OSError(number, os.strerror(number))


cdef long long now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000000000 + now.tv_nsec


cdef bint is_passing(int number) noexcept:
    """Whether an error says no more than to try again."""
    return number == EAGAIN or number == EINTR
