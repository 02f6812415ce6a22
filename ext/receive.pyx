# Batches of datagrams from a UDP socket: class Receiver. The twin is telemetryd/ingest/sflow/receive.py, which
# says what is counted as what; here is only how.
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from _cursor cimport load32, load64
from _hash cimport mix

import numpy as np

from telemetryd.ingest.sflow import receive as _twin

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t, timespec *)
    int clock_nanosleep(clockid_t, int, const timespec *, timespec *)
    const clockid_t CLOCK_MONOTONIC

cdef extern from "<poll.h>" nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    """
    cdef struct pollfd:
        int fd
        short events
        short revents
    int ppoll(pollfd *, unsigned long, const timespec *, const void *)
    const short POLLIN

cdef extern from "<sys/socket.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    cdef struct msghdr:
        void *msg_name
        uint32_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int recvmmsg(int, mmsghdr *, unsigned int, int, timespec *)
    int getsockopt(int, int, int, void *, uint32_t *)
    const int MSG_DONTWAIT, MSG_TRUNC, SOL_SOCKET, AF_INET, AF_INET6

cdef extern from *:
    """
    #define TELEMETRYD_SO_MEMINFO 55 /* linux/sock_diag.h: SK_MEMINFO_* */
    """
    const int TELEMETRYD_SO_MEMINFO

# A sockaddr_in has its address at octet 4, a sockaddr_in6 at octet 8 (ip(7), ipv6(7)).
cdef enum:
    SENDER_OCTETS = 28
    SENDER_IPV4 = 4
    SENDER_IPV6 = 8
    MEMINFO_WORDS = 9
    RMEM_ALLOC = 0
    RCVBUF = 1
    DROPS = 8
    SFLOW_VERSION = 5
    TYPE_IPV4 = 1
    TYPE_IPV6 = 2

cdef Py_ssize_t LEAST_HEADER = _twin.LEAST_HEADER
cdef uint32_t MOST_AGENTS = _twin.MOST_AGENTS
cdef uint32_t MOST_REFUSED = _twin.MOST_REFUSED
cdef int64_t KEEP_ALL = _twin.KEEP_ALL
cdef double LINGER_FILL = _twin.LINGER_FILL
cdef double LINGER_LIMIT_NS = _twin.LINGER_MOST * 1e9 / (_twin.DATAGRAM_MEMORY * _twin.LINGER_RATE)  # an octet
cdef uint32_t AGENT_SLOTS = 1 << (2 * MOST_AGENTS - 1).bit_length()

cdef struct Address:
    uint64_t hi
    uint64_t lo
    uint64_t version               # 0: an empty slot

cdef struct Prefix:
    Address mask
    Address prefix

cdef struct Agent:
    Address address
    int64_t balance
    double tokens
    int64_t refilled_ns
    uint64_t datagrams
    uint64_t octets
    uint64_t processed
    uint64_t shed
    uint64_t capped

cdef struct Refused:
    Address address
    uint64_t datagrams

cdef struct Counts:
    uint64_t received
    uint64_t octets
    uint64_t processed
    uint64_t shed
    uint64_t capped
    uint64_t refused
    uint64_t short_
    uint64_t truncated
    uint64_t wakes


cdef inline uint64_t hash_address(Address *address) noexcept nogil:
    return mix(address.lo + mix(address.hi + address.version))


cdef inline bint same(Address *a, Address *b) noexcept nogil:
    return a.lo == b.lo and a.hi == b.hi and a.version == b.version


cdef inline int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef inline timespec as_timespec(int64_t ns) noexcept nogil:
    cdef timespec span
    span.tv_sec = ns // 1000000000
    span.tv_nsec = ns % 1000000000
    return span


cdef inline Address sender_of(const uint8_t *name) noexcept nogil:
    """Read a sockaddr; an IPv4-mapped IPv6 address is the IPv4 one."""
    cdef Address address
    cdef uint16_t family
    memcpy(&family, name, sizeof(family))
    address.hi = address.lo = address.version = 0
    if family == AF_INET:
        address.version = 4
        address.lo = load32(name + SENDER_IPV4)
    elif family == AF_INET6:
        address.hi = load64(name + SENDER_IPV6)
        address.lo = load64(name + SENDER_IPV6 + 8)
        address.version = 6
        if address.hi == 0 and address.lo >> 32 == 0xFFFF:
            address.version = 4
            address.lo &= <uint64_t>0xFFFFFFFF
    return address


cdef class Receiver:
    cdef readonly object buffer, offsets, lengths, ts_ns
    cdef uint8_t[::1] data
    cdef uint64_t[::1] offset
    cdef uint32_t[::1] length
    cdef int fd
    cdef uint32_t capacity, max_octets
    cdef int64_t linger_ns, next_linger_ns, emptied_ns
    cdef mmsghdr *messages
    cdef iovec *vectors
    cdef uint8_t *senders
    cdef Agent *agent_rows
    cdef uint32_t *agent_slots
    cdef uint32_t n_agents
    cdef Refused *refused_rows
    cdef uint32_t n_refused
    cdef Address *allowed          # a hash table, a power of two
    cdef uint32_t allowed_slots, n_allowed
    cdef Prefix *prefixes
    cdef uint32_t n_prefixes
    cdef int64_t keep_parts
    cdef double rate, burst
    cdef uint64_t random
    cdef bint behind
    cdef Counts counts
    cdef uint32_t last_drops, backlog, receive_buffer
    cdef uint64_t dropped, inherited

    def __cinit__(self, int fd, Py_ssize_t capacity_datagrams, Py_ssize_t max_octets, *,
                  int64_t linger_ns=5_000_000, uint64_t seed=0):
        cdef uint32_t i
        if capacity_datagrams < 1 or max_octets < LEAST_HEADER:
            raise ValueError("a receiver needs room for a datagram")
        self.fd, self.capacity, self.max_octets = fd, capacity_datagrams, max_octets
        self.linger_ns, self.random = linger_ns, seed
        self.buffer = np.zeros(capacity_datagrams * max_octets, np.uint8)
        self.offsets = np.zeros(capacity_datagrams, np.uint64)
        self.lengths = np.zeros(capacity_datagrams, np.uint32)
        self.ts_ns = np.zeros(capacity_datagrams, np.int64)
        self.data, self.offset, self.length = self.buffer, self.offsets, self.lengths
        self.messages = <mmsghdr *>PyMem_Calloc(capacity_datagrams, sizeof(mmsghdr))
        self.vectors = <iovec *>PyMem_Calloc(capacity_datagrams, sizeof(iovec))
        self.senders = <uint8_t *>PyMem_Calloc(capacity_datagrams, SENDER_OCTETS)
        self.agent_rows = <Agent *>PyMem_Calloc(MOST_AGENTS, sizeof(Agent))
        self.agent_slots = <uint32_t *>PyMem_Calloc(AGENT_SLOTS, sizeof(uint32_t))
        self.refused_rows = <Refused *>PyMem_Calloc(MOST_REFUSED + 1, sizeof(Refused))
        if (self.messages == NULL or self.vectors == NULL or self.senders == NULL or self.agent_rows == NULL
                or self.agent_slots == NULL or self.refused_rows == NULL):
            raise MemoryError
        for i in range(self.capacity):
            self.vectors[i].iov_base = &self.data[<size_t>i * self.max_octets]
            self.vectors[i].iov_len = self.max_octets
            self.messages[i].msg_hdr.msg_iov = &self.vectors[i]
            self.messages[i].msg_hdr.msg_iovlen = 1
        self.n_agents = 1
        self.n_refused = 1
        self.emptied_ns = monotonic_ns()
        self.keep_parts = KEEP_ALL
        self.check(self.read_memory())
        self.inherited, self.dropped = self.dropped, 0

    def __dealloc__(self):
        PyMem_Free(self.messages)
        PyMem_Free(self.vectors)
        PyMem_Free(self.senders)
        PyMem_Free(self.agent_rows)
        PyMem_Free(self.agent_slots)
        PyMem_Free(self.refused_rows)
        PyMem_Free(self.allowed)
        PyMem_Free(self.prefixes)

    def allow(self, addresses not None, prefixes not None=()):
        """Take datagrams from these senders only; without any address or prefix, from all."""
        cdef uint32_t n = len(addresses), m = len(prefixes), slots = 2, i, slot
        cdef Address address
        cdef Address *table
        cdef Prefix *masks
        while slots < 2 * n:
            slots *= 2
        table = <Address *>PyMem_Calloc(slots, sizeof(Address))
        masks = <Prefix *>PyMem_Calloc(max(m, 1), sizeof(Prefix))
        if table == NULL or masks == NULL:
            PyMem_Free(table)
            PyMem_Free(masks)
            raise MemoryError
        try:
            for version, hi, lo in addresses:
                address.version, address.hi, address.lo = version, hi, lo
                slot = hash_address(&address) & (slots - 1)
                while table[slot].version and not same(&table[slot], &address):
                    slot = (slot + 1) & (slots - 1)
                table[slot] = address
            for i in range(m):
                version, mask_hi, mask_lo, hi, lo = prefixes[i]
                masks[i].prefix.version, masks[i].prefix.hi, masks[i].prefix.lo = version, hi, lo
                masks[i].mask.hi, masks[i].mask.lo = mask_hi, mask_lo
        except BaseException:
            PyMem_Free(table)
            PyMem_Free(masks)
            raise
        PyMem_Free(self.allowed)
        PyMem_Free(self.prefixes)
        self.allowed, self.allowed_slots, self.n_allowed = table, slots, n
        self.prefixes, self.n_prefixes = masks, m

    def cap(self, double rate, double burst):
        """Let an agent send ``rate`` datagrams a second, and ``burst`` at once; rate 0 is no cap."""
        self.rate, self.burst = rate, max(burst, 1.0)

    def keep(self, int64_t parts):
        """Keep ``parts`` of KEEP_ALL of each agent's datagrams, from now on."""
        self.keep_parts = min(max(parts, 0), KEEP_ALL)

    def receive(self, int64_t wait_ns):
        """Receive a batch and return how many datagrams it hands on."""
        cdef Py_ssize_t kept
        cdef int failed = 0
        with nogil:
            kept = self.receive_batch(wait_ns, &failed)
        self.check(failed)
        return kept

    @property
    def is_behind(self):
        """Whether the last batch was full, so that more may wait."""
        return self.behind

    @property
    def fill(self):
        """Share of the receive buffer that was taken before the last batch."""
        return self.backlog / <double>self.receive_buffer

    def stats(self):
        """Count what came from this socket."""
        self.check(self.read_memory())
        counts = {(name if name != "short_" else "short"): count for name, count in dict(self.counts).items()}
        counts["kernel_drops"] = self.dropped
        counts["inherited_drops"] = self.inherited
        counts["backlog"] = self.backlog
        counts["receive_buffer"] = self.receive_buffer
        return counts

    def agents(self):
        """Describe the agents as columns of shape (a,), row 0 "other"."""
        names = ("agent_version", "agent_hi", "agent_lo", "datagrams", "octets", "processed", "shed", "capped")
        columns = {name: np.zeros(self.n_agents, np.uint64) for name in names}
        cdef uint64_t[::1] version = columns["agent_version"], hi = columns["agent_hi"], lo = columns["agent_lo"]
        cdef uint64_t[::1] datagrams = columns["datagrams"], octets = columns["octets"]
        cdef uint64_t[::1] processed = columns["processed"], shed = columns["shed"], capped = columns["capped"]
        cdef uint32_t row
        for row in range(self.n_agents):
            version[row] = self.agent_rows[row].address.version
            hi[row], lo[row] = self.agent_rows[row].address.hi, self.agent_rows[row].address.lo
            datagrams[row], octets[row] = self.agent_rows[row].datagrams, self.agent_rows[row].octets
            processed[row], shed[row] = self.agent_rows[row].processed, self.agent_rows[row].shed
            capped[row] = self.agent_rows[row].capped
        return columns

    def refused(self):
        """Return the senders that were refused: version, address words and datagrams."""
        cdef uint32_t row
        rows = []
        for row in list(range(1, self.n_refused)) + [0]:
            if self.refused_rows[row].datagrams:
                address = self.refused_rows[row].address
                rows.append((address.version, address.hi, address.lo, self.refused_rows[row].datagrams))
        return rows

    cdef int check(self, int failed) except -1:
        if failed:
            raise OSError(failed, "receiving failed")
        return 0

    cdef int read_memory(self) noexcept nogil:
        """Read the socket's drops and backlog; return 0 or an errno."""
        cdef uint32_t words[MEMINFO_WORDS]
        cdef uint32_t size = sizeof(words)
        if getsockopt(self.fd, SOL_SOCKET, TELEMETRYD_SO_MEMINFO, words, &size) < 0:
            return errno
        self.dropped += <uint32_t>(words[DROPS] - self.last_drops)
        self.last_drops = words[DROPS]
        self.backlog, self.receive_buffer = words[RMEM_ALLOC], max(words[RCVBUF], 1)
        return 0

    cdef Py_ssize_t receive_batch(self, int64_t wait_ns, int *failed) noexcept nogil:
        cdef pollfd waiting
        cdef timespec span
        cdef int64_t now_ns, linger_ns, until_ns = monotonic_ns() + wait_ns
        cdef int n
        cdef uint32_t i
        if wait_ns > 0 and not self.behind:
            waiting.fd, waiting.events, waiting.revents = self.fd, POLLIN, 0
            span = as_timespec(wait_ns)
            n = ppoll(&waiting, 1, &span, NULL)
            if n < 0 and errno != EINTR:
                failed[0] = errno
                return 0
            if n <= 0:
                failed[0] = self.read_memory()
                return 0
            # After a wake everything is cold, the kernel's part and ours, so let some accumulate.
            linger_ns = min(self.linger_ns, self.next_linger_ns, until_ns - monotonic_ns())
            if linger_ns > 0:
                span = as_timespec(linger_ns)
                clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL)
        failed[0] = self.read_memory()
        if failed[0]:
            return 0
        now_ns = monotonic_ns()
        if not self.behind:
            self.next_linger_ns = min(
                <int64_t>(self.receive_buffer * LINGER_LIMIT_NS),
                <int64_t>(<double>(now_ns - self.emptied_ns) * self.receive_buffer * LINGER_FILL
                          / max(self.backlog, 1)),
            )
        for i in range(self.capacity):
            # Who sent it is asked only where there is a list to compare it with: it costs 3 % of receiving.
            self.messages[i].msg_hdr.msg_name = (
                self.senders + <size_t>i * SENDER_OCTETS if self.n_allowed or self.n_prefixes else NULL
            )
            self.messages[i].msg_hdr.msg_namelen = SENDER_OCTETS
        n = recvmmsg(self.fd, self.messages, self.capacity, MSG_DONTWAIT, NULL)
        if n < <int>self.capacity:
            self.emptied_ns = now_ns
        if n < 0:
            self.behind = False
            if errno != EAGAIN and errno != EINTR:
                failed[0] = errno
            return 0
        self.counts.wakes += n > 0
        self.behind = <uint32_t>n == self.capacity
        return self.choose(n)

    cdef Py_ssize_t choose(self, uint32_t n) noexcept nogil:
        """Count every datagram as one thing, and list those that are handed on."""
        cdef Py_ssize_t kept = 0
        cdef int64_t now_ns = monotonic_ns() if self.rate > 0 else 0
        cdef uint32_t i, octets
        cdef const uint8_t *at
        cdef Address sender
        for i in range(n):
            octets = self.messages[i].msg_len
            self.counts.received += 1
            self.counts.octets += octets
            self.counts.truncated += (self.messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0
            if self.n_allowed or self.n_prefixes:
                sender = sender_of(self.senders + <size_t>i * SENDER_OCTETS)
                if not self.is_allowed(&sender):
                    self.refuse(&sender)
                    continue
            if octets < LEAST_HEADER:
                self.counts.short_ += 1
                continue
            at = &self.data[<size_t>i * self.max_octets]
            if not self.is_kept(self.agent_of(at), octets, now_ns):
                continue
            self.offset[kept] = <uint64_t>i * self.max_octets
            self.length[kept] = octets
            kept += 1
        return kept

    cdef inline bint is_allowed(self, Address *sender) noexcept nogil:
        cdef uint32_t slot, i
        cdef Prefix *prefix
        if self.n_allowed:
            slot = hash_address(sender) & (self.allowed_slots - 1)
            while self.allowed[slot].version:
                if same(&self.allowed[slot], sender):
                    return True
                slot = (slot + 1) & (self.allowed_slots - 1)
        for i in range(self.n_prefixes):
            prefix = &self.prefixes[i]
            if (prefix.prefix.version == sender.version and sender.hi & prefix.mask.hi == prefix.prefix.hi
                    and sender.lo & prefix.mask.lo == prefix.prefix.lo):
                return True
        return False

    cdef void refuse(self, Address *sender) noexcept nogil:
        cdef uint32_t row
        self.counts.refused += 1
        for row in range(1, self.n_refused):
            if same(&self.refused_rows[row].address, sender):
                self.refused_rows[row].datagrams += 1
                return
        row = 0
        if self.n_refused <= MOST_REFUSED:
            row = self.n_refused
            self.n_refused += 1
            self.refused_rows[row].address = sender[0]
        self.refused_rows[row].datagrams += 1

    cdef inline Agent *agent_of(self, const uint8_t *at) noexcept nogil:
        """Find the agent that a header of at least LEAST_HEADER octets names; row 0 where it cannot be told."""
        cdef Address address
        cdef uint32_t slot, row, kind = load32(at + 4)
        if load32(at) != SFLOW_VERSION:
            return &self.agent_rows[0]
        if kind == TYPE_IPV4:
            address.version, address.hi, address.lo = 4, 0, load32(at + 8)
        elif kind == TYPE_IPV6:
            address.version, address.hi, address.lo = 6, load64(at + 8), load64(at + 16)
        else:
            return &self.agent_rows[0]
        slot = hash_address(&address) & (AGENT_SLOTS - 1)
        while True:
            row = self.agent_slots[slot]
            if row == 0:
                break
            if same(&self.agent_rows[row].address, &address):
                return &self.agent_rows[row]
            slot = (slot + 1) & (AGENT_SLOTS - 1)
        if self.n_agents == MOST_AGENTS:
            return &self.agent_rows[0]
        row = self.n_agents
        self.n_agents += 1
        self.agent_slots[slot] = row
        self.agent_rows[row].address = address
        return &self.agent_rows[row]

    cdef inline bint is_kept(self, Agent *agent, uint32_t octets, int64_t now_ns) noexcept nogil:
        agent.datagrams += 1
        agent.octets += octets
        if self.rate > 0:
            if agent.refilled_ns == 0:
                agent.tokens = self.burst
            else:
                agent.tokens = min(self.burst, agent.tokens + <double>(now_ns - agent.refilled_ns) * self.rate / 1e9)
            agent.refilled_ns = now_ns
            if agent.tokens < 1.0:
                agent.capped += 1
                self.counts.capped += 1
                return False
            agent.tokens -= 1.0
        agent.balance += self.keep_parts
        # The thresholds are the states of splitmix64, whose mixing is `mix`.
        self.random += <uint64_t>0x9E3779B97F4A7C15
        if agent.balance <= <int64_t>(mix(self.random) % <uint64_t>KEEP_ALL):
            agent.shed += 1
            self.counts.shed += 1
            return False
        agent.balance -= KEEP_ALL
        agent.processed += 1
        self.counts.processed += 1
        return True
