"""Send datagrams at their times, and count what comes in (twin: telemetryd.ingest.generate.send_reference)."""

from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import os

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <poll.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <time.h>

    #define TELEMETRYD_CONTROL CMSG_SPACE(sizeof(struct in_pktinfo))

    /* Name the source address of a message (ip(7), IP_PKTINFO); 0 leaves it to the route. */
    static void telemetryd_source(struct msghdr* message, char* control, uint32_t address)
    {
        struct cmsghdr* head = (struct cmsghdr*)control;
        struct in_pktinfo info;
        if (!address) {
            message->msg_control = NULL;
            message->msg_controllen = 0;
            return;
        }
        memset(&info, 0, sizeof info);
        info.ipi_spec_dst.s_addr = htonl(address);
        memset(control, 0, TELEMETRYD_CONTROL);
        message->msg_control = control;
        message->msg_controllen = TELEMETRYD_CONTROL;
        head->cmsg_level = IPPROTO_IP;
        head->cmsg_type = IP_PKTINFO;
        head->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(head), &info, sizeof info);
    }

    static int64_t telemetryd_now(void)
    {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }

    /* Sleep until a time of CLOCK_MONOTONIC; a signal ends it. */
    static int telemetryd_sleep(int64_t until_ns)
    {
        struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }

    /* Wait for a datagram for at most so long. */
    static int telemetryd_wait(int fd, int64_t timeout_ns)
    {
        struct pollfd entry = {fd, POLLIN, 0};
        struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        return ppoll(&entry, 1, &timeout, NULL);
    }
    """
    enum:
        TELEMETRYD_CONTROL
        MSG_DONTWAIT
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct timespec:
        pass
    int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags) noexcept nogil
    int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags, timespec* timeout) noexcept nogil
    void telemetryd_source(msghdr* message, char* control, uint32_t address) noexcept nogil
    int64_t telemetryd_now() noexcept nogil
    int telemetryd_sleep(int64_t until_ns) noexcept nogil
    int telemetryd_wait(int fd, int64_t timeout_ns) noexcept nogil

cdef enum:
    BURST = 64  # datagrams of a call
    GATHER_NS = 250_000  # how late a datagram may be so that others go with it
    RETRY_NS = 100_000  # how long a full queue is left alone
    SLOT = 2048  # octets of a received datagram that are kept


cdef class Sender:
    """Send datagrams on a connected UDP socket, each at its time."""

    cdef readonly uint64_t datagrams, octets, refused, retries
    cdef readonly int64_t latest_ns
    cdef int fd
    cdef mmsghdr* messages
    cdef iovec* vectors
    cdef char* controls

    def __cinit__(self, int fd):
        cdef Py_ssize_t i
        self.fd = fd
        self.messages = <mmsghdr*>calloc(BURST, sizeof(mmsghdr))
        self.vectors = <iovec*>calloc(BURST, sizeof(iovec))
        self.controls = <char*>calloc(BURST, TELEMETRYD_CONTROL)
        if not self.messages or not self.vectors or not self.controls:
            raise MemoryError("no memory for a burst of datagrams")
        for i in range(BURST):
            self.messages[i].msg_hdr.msg_iov = &self.vectors[i]
            self.messages[i].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        free(self.messages)
        free(self.vectors)
        free(self.controls)

    def send(self, const uint8_t[::1] buffer not None, const uint64_t[::1] offsets not None,
             const uint32_t[::1] lengths not None, const int64_t[::1] due_ns not None,
             const uint32_t[::1] sources not None, Py_ssize_t first, int64_t until_ns):
        """Send the rows from `first` on, each when it is due; return the first row that was not sent."""
        cdef Py_ssize_t n = offsets.shape[0], row
        cdef uint64_t size = buffer.shape[0]
        cdef int error = 0
        if lengths.shape[0] != n or due_ns.shape[0] != n or sources.shape[0] != n:
            raise ValueError("the columns differ in length")
        if not 0 <= first <= n:
            raise ValueError("there is no such row")
        if first == n:
            return first
        for row in range(first, n):
            if lengths[row] > size or offsets[row] > size - lengths[row]:
                raise ValueError(f"datagram {row} lies outside the buffer")
        with nogil:
            row = self._send(&buffer[0] if size else NULL, &offsets[0], &lengths[0], &due_ns[0], &sources[0], first, n,
                             until_ns, &error)
        if error:
            raise OSError(error, os.strerror(error))
        return row

    cdef Py_ssize_t _send(self, const uint8_t* buffer, const uint64_t* offsets, const uint32_t* lengths,
                          const int64_t* due_ns, const uint32_t* sources, Py_ssize_t row, Py_ssize_t n,
                          int64_t until_ns, int* error) noexcept nogil:
        cdef int64_t now, wake
        cdef int count, sent, i
        while row < n:
            now = telemetryd_now()
            if now >= until_ns:
                break
            if due_ns[row] > now:
                wake = due_ns[min(row + BURST, n) - 1]
                wake = min(max(due_ns[row], min(wake, due_ns[row] + GATHER_NS)), until_ns)
                if telemetryd_sleep(wake) == EINTR:
                    break
                continue
            self.latest_ns = max(self.latest_ns, now - due_ns[row])
            count = 0
            while count < BURST and row + count < n and due_ns[row + count] <= now:
                self.vectors[count].iov_base = <void*>(buffer + offsets[row + count])
                self.vectors[count].iov_len = lengths[row + count]
                telemetryd_source(&self.messages[count].msg_hdr, self.controls + count * TELEMETRYD_CONTROL,
                                  sources[row + count])
                count += 1
            sent = sendmmsg(self.fd, self.messages, count, 0)
            if sent < 0:
                if errno == EINTR:
                    break
                if errno == ECONNREFUSED:
                    # ICMP said that nobody listens to an earlier datagram; this one was not tried
                    self.refused += 1
                elif errno == EAGAIN or errno == ENOBUFS or errno == ENOMEM:
                    self.retries += 1
                    telemetryd_sleep(now + RETRY_NS)
                else:
                    error[0] = errno
                    break
                continue
            for i in range(sent):
                self.octets += lengths[row + i]
            self.datagrams += sent
            row += sent
            if sent < count:
                # sendmmsg(2) keeps the error of the next one to itself; any but a refusal comes again at once
                self.refused += 1
        return row


cdef class Counter:
    """Receive and count, and nothing else: the limit of what any receiver can do."""

    cdef readonly uint64_t datagrams, octets
    cdef int fd
    cdef int64_t wait_ns
    cdef mmsghdr* messages
    cdef iovec* vectors
    cdef uint8_t* slots

    def __cinit__(self, int fd, int64_t wait_ns):
        cdef Py_ssize_t i
        self.fd, self.wait_ns = fd, wait_ns
        self.messages = <mmsghdr*>calloc(BURST, sizeof(mmsghdr))
        self.vectors = <iovec*>calloc(BURST, sizeof(iovec))
        self.slots = <uint8_t*>calloc(BURST, SLOT)
        if not self.messages or not self.vectors or not self.slots:
            raise MemoryError("no memory for a burst of datagrams")
        for i in range(BURST):
            self.vectors[i].iov_base = self.slots + i * SLOT
            self.vectors[i].iov_len = SLOT
            self.messages[i].msg_hdr.msg_iov = &self.vectors[i]
            self.messages[i].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        free(self.messages)
        free(self.vectors)
        free(self.slots)

    def receive(self, int64_t until_ns):
        """Receive until a time of the monotonic clock."""
        cdef int error = 0
        with nogil:
            error = self._receive(until_ns)
        if error:
            raise OSError(error, os.strerror(error))

    cdef int _receive(self, int64_t until_ns) noexcept nogil:
        cdef int64_t now
        cdef int count, i
        while True:
            now = telemetryd_now()
            if now >= until_ns:
                return 0
            count = telemetryd_wait(self.fd, until_ns - now)
            if count < 0:
                return 0 if errno == EINTR else errno
            if not count:
                return 0
            if self.wait_ns:
                telemetryd_sleep(telemetryd_now() + self.wait_ns)
            while True:
                count = recvmmsg(self.fd, self.messages, BURST, MSG_DONTWAIT, NULL)
                if count < 0:
                    if errno == EAGAIN or errno == EINTR:
                        break
                    return errno
                for i in range(count):
                    self.octets += self.messages[i].msg_len
                self.datagrams += count
                if count < BURST:
                    break
