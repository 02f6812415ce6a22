"""Sum samples per key, source and window (twin: telemetryd.aggregate.accumulate_reference).

The rows of a batch are taken in blocks of one window, in three passes: pack the keys, look at the index
words, then add. Each pass asks for the memory that the next one needs, so that the cache misses of a block
overlap. Keys live in dense slots of one cache line each, found through an index of 64-bit words
(32 bits of hash, 32 bits of slot + 1; 0 is free), never more than a quarter full. Tables are taken from a
free list, the last one used first: data is mostly in one window, which stays in the cache.

The layout of the key words is drawn in telemetryd/aggregate/keys.py.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from _talkers cimport Ends, Talker, Talkers, allocate_talkers, count_talker, forget_talkers

import numpy as np

cdef extern from *:
    """
    #define telemetryd_prefetch(p) __builtin_prefetch(p, 1, 3)
    static inline void* telemetryd_lines(size_t count) { return aligned_alloc(64, count * 64); }
    """
    void telemetryd_prefetch(const void* p) noexcept nogil
    void* telemetryd_lines(size_t count) noexcept nogil

cdef enum:
    BLOCK = 64              # rows whose cache misses overlap
    FIRST_CAPACITY = 1024   # keys of a new table
    DUPLICATE = 2           # pool_valid of a row that must not be counted
    KNOWN = 1
    UNKNOWN_GROWTH = 0xFFFFFFFF    # the tracker believes no growth of 2^31 and more


cdef enum Status:
    OK
    NO_MEMORY
    CODE_TOO_LARGE
    BAD_DATAGRAM


cdef struct Entry:          # one cache line
    uint64_t key0
    uint64_t key1
    uint64_t key2
    uint64_t samples
    uint64_t octets
    double squares
    uint32_t largest
    uint32_t tag
    uint64_t place          # of its index word


cdef struct Source:         # one cache line
    uint64_t growth
    uint64_t stated         # sum of the stated rates
    uint64_t ungrown        # samples whose growth is unknown: the rarer case is counted
    uint64_t stated_ungrown     # the stated rates of those
    uint64_t samples        # the rest follows from the keys when the window is closed
    uint64_t largest
    uint64_t unused[2]


cdef struct Table:
    Entry* entries
    uint64_t* index
    uint64_t mask
    uint32_t n
    uint32_t capacity
    Source* sources
    uint32_t* touched
    uint32_t n_sources      # allocated
    uint32_t n_touched


cdef struct Pending:        # a row between the passes
    uint64_t key0
    uint64_t key1
    uint64_t key2
    uint64_t hash
    uint32_t length
    uint32_t source
    uint32_t rate
    uint32_t growth


cdef struct Columns:        # of the bound batches
    const int64_t* ts
    Py_ssize_t n_datagrams
    const uint32_t* datagram
    const uint32_t* rate
    const uint32_t* length
    const uint32_t* source
    const uint32_t* growth
    const uint8_t* valid
    const uint32_t* link_in
    const uint32_t* link_out
    const uint32_t* metering
    const uint32_t* department
    const uint32_t* peer
    const uint32_t* application
    const uint32_t* source_zone
    const uint32_t* destination_zone
    const uint8_t* direction
    const uint8_t* service_class


cdef inline uint64_t hash_key(uint64_t key0, uint64_t key1, uint64_t key2) noexcept nogil:
    cdef uint64_t h = key0 * <uint64_t>0x9E3779B97F4A7C15
    h = ((h ^ h >> 32) ^ key1) * <uint64_t>0xBF58476D1CE4E5B9
    h = ((h ^ h >> 29) ^ key2) * <uint64_t>0x94D049BB133111EB
    return h ^ h >> 32


cdef Status grow_table(Table* table) noexcept nogil:
    """Double the room for keys; rehash."""
    cdef uint32_t capacity = table.capacity * 2 if table.capacity else FIRST_CAPACITY
    cdef uint64_t mask = <uint64_t>capacity * 4 - 1, place
    cdef Entry* entries = <Entry*>telemetryd_lines(capacity)
    cdef uint64_t* index = <uint64_t*>calloc(mask + 1, sizeof(uint64_t))
    cdef uint32_t slot
    cdef Entry* entry
    if not (entries and index):
        free(entries)
        free(index)
        return NO_MEMORY
    if table.n:
        memcpy(entries, table.entries, table.n * sizeof(Entry))
    for slot in range(table.n):
        entry = &entries[slot]
        place = hash_key(entry.key0, entry.key1, entry.key2) & mask
        while index[place]:
            place = (place + 1) & mask
        index[place] = <uint64_t>entry.tag << 32 | (slot + 1)
        entry.place = place
    free(table.entries)
    free(table.index)
    table.entries, table.index, table.mask, table.capacity = entries, index, mask, capacity
    return OK


cdef Status grow_sources(Table* table, uint32_t source) noexcept nogil:
    cdef uint32_t n = table.n_sources if table.n_sources else 64
    cdef Source* sources
    cdef uint32_t* touched
    while n <= source:
        n *= 2
    sources = <Source*>telemetryd_lines(n)
    if not sources:
        return NO_MEMORY
    if table.n_sources:
        memcpy(sources, table.sources, table.n_sources * sizeof(Source))
    free(table.sources)
    table.sources = sources
    touched = <uint32_t*>realloc(table.touched, n * sizeof(uint32_t))
    if not touched:
        return NO_MEMORY
    table.touched = touched
    memset(&sources[table.n_sources], 0, (n - table.n_sources) * sizeof(Source))
    table.n_sources = n
    return OK


cdef Status add_block(Table* table, const Pending* rows, uint32_t n) noexcept nogil:
    """Add packed rows to the table; their index words have been asked for."""
    cdef uint64_t* index = table.index
    cdef uint64_t mask = table.mask, place, word
    cdef Entry* entries = table.entries
    cdef Entry* entry
    cdef const Pending* row
    cdef Source* source
    cdef uint32_t i, tag
    for i in range(n):
        row = &rows[i]
        word = index[row.hash & mask]
        if word:
            telemetryd_prefetch(&entries[<uint32_t>word - 1])
        source = &table.sources[row.source]
        source.stated += row.rate
        if row.growth != UNKNOWN_GROWTH:
            source.growth += row.growth
        else:
            source.ungrown += 1
            source.stated_ungrown += row.rate
    for i in range(n):
        row = &rows[i]
        tag = <uint32_t>(row.hash >> 32)
        place = row.hash & mask
        while True:
            word = index[place]
            if word == 0:
                if table.n == table.capacity:
                    if grow_table(table) != OK:
                        return NO_MEMORY
                    index, mask, entries = table.index, table.mask, table.entries
                    place = row.hash & mask
                    while index[place]:
                        place = (place + 1) & mask
                entry = &entries[table.n]
                table.n += 1
                index[place] = <uint64_t>tag << 32 | table.n
                entry.key0, entry.key1, entry.key2 = row.key0, row.key1, row.key2
                entry.samples = 1
                entry.octets = row.length
                entry.squares = <double>row.length * <double>row.length
                entry.largest = row.length
                entry.tag = tag
                entry.place = place
                break
            if <uint32_t>(word >> 32) == tag:
                entry = &entries[<uint32_t>word - 1]
                if entry.key0 == row.key0 and entry.key1 == row.key1 and entry.key2 == row.key2:
                    entry.samples += 1
                    entry.octets += row.length
                    entry.squares += <double>row.length * <double>row.length
                    if row.length > entry.largest:
                        entry.largest = row.length
                    break
            place = (place + 1) & mask
    return OK


cdef void finish_sources(Table* table) noexcept nogil:
    """Derive from the keys which sources there are, with their samples and largest frames."""
    cdef uint32_t slot, i
    cdef Entry* entry
    cdef Source* source
    for i in range(table.n):
        entry = &table.entries[i]
        slot = <uint32_t>(entry.key0 >> 48)
        source = &table.sources[slot]
        if source.samples == 0:
            table.touched[table.n_touched] = slot
            table.n_touched += 1
        source.samples += entry.samples
        if entry.largest > source.largest:
            source.largest = entry.largest


cdef void clear_table(Table* table) noexcept nogil:
    """Empty a table in time proportional to what it holds."""
    cdef uint32_t i
    if table.n and table.n > table.mask >> 3:  # most lines hold a word: wipe them in order
        memset(table.index, 0, (table.mask + 1) * sizeof(uint64_t))
    else:
        for i in range(table.n):
            table.index[table.entries[i].place] = 0
    for i in range(table.n_touched):
        memset(&table.sources[table.touched[i]], 0, sizeof(Source))
    table.n = 0
    table.n_touched = 0


cdef class Accumulator:
    """Sum the rows of the bound batches per key, source and window; see the .pyi file."""

    cdef object _samples
    cdef list _views            # keep the memory of the columns alive
    cdef Columns columns
    cdef Ends ends
    cdef Py_ssize_t max_samples
    cdef Table* tables
    cdef Table** ring           # the table of each open window, NULL while it has no row
    cdef Table** free_tables
    cdef uint32_t n_windows, n_free
    cdef int64_t window_length
    cdef int64_t first          # the oldest open window
    cdef bint is_open
    cdef Talkers talkers
    cdef uint64_t n_late, late, n_duplicates

    def __cinit__(self, datagrams, samples, track, classes, *, uint32_t windows=16,
                  int64_t window_ns=1_000_000_000, uint32_t talkers=16384):
        cdef uint32_t i
        if not 2 <= windows <= 4096:
            raise ValueError("the number of open windows must be in 2..4096")
        if window_ns <= 0:
            raise ValueError("the length of a window must be positive")
        if not 1 <= talkers <= 1 << 24:
            raise ValueError("the number of talkers must be in 1..16777216")
        self.n_windows = windows
        self.window_length = window_ns
        self.tables = <Table*>calloc(windows, sizeof(Table))
        self.ring = <Table**>calloc(windows, sizeof(Table*))
        self.free_tables = <Table**>calloc(windows, sizeof(Table*))
        if not (allocate_talkers(&self.talkers, talkers) and self.tables and self.ring and self.free_tables):
            raise MemoryError("no memory for the windows")
        for i in range(windows):
            self.free_tables[i] = &self.tables[windows - 1 - i]
        self.n_free = windows

    def __init__(self, datagrams, samples, track, classes, *, windows=16, window_ns=1_000_000_000, talkers=16384):
        if track.capacity < samples.capacity or classes.capacity < samples.capacity:
            raise ValueError("the track or the class batch is smaller than the sample batch")
        if datagrams.capacity < 1 or samples.capacity < 1:
            raise ValueError("the batches hold no row")
        self._samples = samples
        self._views = []
        cdef const int64_t[::1] ts = datagrams["ts_ns"]
        cdef const uint16_t[::1] source_port = samples["source_port"]
        cdef const uint16_t[::1] destination_port = samples["destination_port"]
        self._views += [ts, source_port, destination_port]
        self.max_samples = samples.capacity
        self.ends.source_hi = self.longs(samples, "source_hi")
        self.ends.source_lo = self.longs(samples, "source_lo")
        self.ends.destination_hi = self.longs(samples, "destination_hi")
        self.ends.destination_lo = self.longs(samples, "destination_lo")
        self.ends.version = self.octets(samples, "ip_version")
        self.ends.protocol = self.octets(samples, "protocol")
        self.ends.source_port = &source_port[0]
        self.ends.destination_port = &destination_port[0]
        self.columns.ts = &ts[0]
        self.columns.n_datagrams = ts.shape[0]
        self.columns.datagram = self.words(samples, "datagram")
        self.columns.rate = self.words(samples, "sampling_rate")
        self.columns.length = self.words(samples, "frame_length")
        self.columns.source = self.words(track, "source")
        self.columns.growth = self.words(track, "pool_growth")
        self.columns.valid = self.octets(track, "pool_valid")
        self.columns.link_in = self.words(classes, "link_in")
        self.columns.link_out = self.words(classes, "link_out")
        self.columns.metering = self.words(classes, "metering_point")
        self.columns.department = self.words(classes, "department")
        self.columns.peer = self.words(classes, "peer_department")
        self.columns.application = self.words(classes, "application")
        self.columns.source_zone = self.words(classes, "source_zone")
        self.columns.destination_zone = self.words(classes, "destination_zone")
        self.columns.direction = self.octets(classes, "direction")
        self.columns.service_class = self.octets(classes, "service_class")

    cdef const uint64_t* longs(self, batch, name) except NULL:
        cdef const uint64_t[::1] view = batch[name]
        self._views.append(view)
        return &view[0]

    cdef const uint32_t* words(self, batch, name) except NULL:
        cdef const uint32_t[::1] view = batch[name]
        self._views.append(view)
        return &view[0]

    cdef const uint8_t* octets(self, batch, name) except NULL:
        cdef const uint8_t[::1] view = batch[name]
        self._views.append(view)
        return &view[0]

    def __dealloc__(self):
        cdef uint32_t i
        if self.tables:
            for i in range(self.n_windows):
                free(self.tables[i].entries)
                free(self.tables[i].index)
                free(self.tables[i].sources)
                free(self.tables[i].touched)
        free(self.tables)
        free(self.ring)
        free(self.free_tables)
        free(self.talkers.slots)

    @property
    def windows(self):
        """Number of windows that can be open at once."""
        return self.n_windows

    @property
    def window_ns(self):
        """Length of a window, ns."""
        return self.window_length

    @property
    def first_window(self):
        """Number of the oldest open window, None before :meth:`open`."""
        return self.first if self.is_open else None

    @property
    def is_empty(self):
        """Whether no open window holds a row."""
        return self.n_free == self.n_windows

    def counts(self):
        """Rows that were not added: ``late_samples``, ``late_octets``, ``duplicate_samples``."""
        return {"late_samples": self.n_late, "late_octets": self.late, "duplicate_samples": self.n_duplicates}

    def open(self, int64_t window):
        """Make ``window`` the oldest open one."""
        if self.n_free != self.n_windows:
            raise ValueError("an open window holds rows: close it first")
        if self.is_open and window < self.first:
            raise ValueError("a closed window cannot be opened again")
        self.first = window
        self.is_open = True

    def add(self, Py_ssize_t first_row):
        """Add rows from ``first_row``; return the row that stopped it, or the number of rows."""
        cdef Py_ssize_t n = self._samples.n, row = first_row
        cdef Status status = OK
        if not (0 <= n <= self.max_samples and 0 <= first_row <= n):
            raise ValueError("the rows are not in the batch")
        if not self.is_open:
            return first_row
        with nogil:
            status = self.add_rows(&row, n)
        if status == NO_MEMORY:
            raise MemoryError("no memory for the keys of a window")
        if status == CODE_TOO_LARGE:
            raise ValueError(f"row {row} has a code beyond telemetryd.aggregate.keys.CODE_LIMITS")
        if status == BAD_DATAGRAM:
            raise ValueError(f"row {row} refers to no datagram of the batch")
        return row

    cdef Table* table_of(self, int64_t window) noexcept nogil:
        cdef uint64_t place = <uint64_t>window % self.n_windows
        cdef Table* table = self.ring[place]
        if not table:
            self.n_free -= 1
            table = self.free_tables[self.n_free]
            self.ring[place] = table
        return table

    cdef Status add_rows(self, Py_ssize_t* first_row, Py_ssize_t n) noexcept nogil:
        cdef Pending pending[BLOCK]
        cdef Columns c = self.columns       # a copy that no store below can change
        cdef Py_ssize_t row = first_row[0]
        cdef uint32_t filled, datagram = 0, slot, length, rate, application
        cdef int64_t ts, window, start = 0, end = 0     # of the window that `table` is for
        cdef bint is_late = False, is_beyond = False, is_known = False
        cdef Table* table = NULL
        cdef Pending* p
        cdef Status status = OK
        while row < n and status == OK and not is_beyond:
            filled = 0
            while filled < BLOCK and row < n:
                if not is_known or c.datagram[row] != datagram:
                    datagram = c.datagram[row]
                    if datagram >= c.n_datagrams:
                        status = BAD_DATAGRAM
                        break
                    is_known = True
                    ts = c.ts[datagram]
                    if not (start <= ts < end):
                        if filled:      # a block is of one window
                            is_known = False
                            break
                        window = ts / self.window_length
                        if ts < 0 and window * self.window_length != ts:
                            window -= 1
                        is_late = window < self.first
                        if window >= self.first + self.n_windows:
                            is_beyond = True
                            break
                        start = window * self.window_length
                        end = start + self.window_length
                        if not is_late:
                            table = self.table_of(window)
                            if not table.capacity and grow_table(table) != OK:
                                status = NO_MEMORY
                                break
                length = c.length[row]
                if is_late:
                    self.n_late += 1
                    self.late += length
                    row += 1
                    continue
                if c.valid[row] == DUPLICATE:
                    self.n_duplicates += 1
                    row += 1
                    continue
                slot = c.source[row]
                rate = c.rate[row]
                application = c.application[row]
                if (slot | c.source_zone[row] | c.destination_zone[row]) >> 16 | (
                    (c.link_in[row] | c.link_out[row] | c.metering[row]) >> 24
                ) | (c.department[row] | c.peer[row] | application) >> 20 | c.direction[row] >> 3:
                    status = CODE_TOO_LARGE
                    break
                p = &pending[filled]
                p.key0 = <uint64_t>slot << 48 | <uint64_t>c.link_in[row] << 24 | c.link_out[row]
                p.key1 = (
                    <uint64_t>c.department[row] << 44 | <uint64_t>c.peer[row] << 24
                    | <uint64_t>application << 4 | c.direction[row]
                )
                p.key2 = (
                    <uint64_t>c.metering[row] << 40 | <uint64_t>c.source_zone[row] << 24
                    | <uint64_t>c.destination_zone[row] << 8 | c.service_class[row]
                )
                p.hash = hash_key(p.key0, p.key1, p.key2)
                p.length = length
                p.source = slot
                p.rate = rate
                p.growth = c.growth[row] if c.valid[row] == KNOWN else UNKNOWN_GROWTH
                telemetryd_prefetch(&table.index[p.hash & table.mask])
                if slot >= table.n_sources and grow_sources(table, slot) != OK:
                    status = NO_MEMORY
                    break
                telemetryd_prefetch(&table.sources[slot])
                if application == 0:
                    count_talker(&self.talkers, &self.ends, row, length, rate)
                filled += 1
                row += 1
            if filled and add_block(table, pending, filled) != OK:
                status = NO_MEMORY
        first_row[0] = row
        return status

    def close(self):
        """Hand out the oldest open window as columns, empty it, and open one more at the end."""
        if not self.is_open:
            raise ValueError("no window is open")
        cdef uint64_t ring_place = <uint64_t>self.first % self.n_windows
        cdef Table* table = self.ring[ring_place]
        if table:
            finish_sources(table)
        cdef Py_ssize_t k = table.n if table else 0
        cdef Py_ssize_t s = table.n_touched if table else 0
        cdef Py_ssize_t i
        cdef Entry* entry
        cdef Source* source
        columns = {name: np.empty(k, np.uint64) for name in ("key0", "key1", "key2", "samples", "octets")}
        columns |= {"squares": np.empty(k, np.float64), "largest": np.empty(k, np.uint32)}
        sources = {"source": np.empty(s, np.uint32)}
        sources |= {name: np.empty(s, np.uint64) for name in ("samples", "growth", "grown", "stated", "stated_grown")}
        sources |= {"largest": np.empty(s, np.uint32)}
        cdef uint64_t[::1] key0 = columns["key0"], key1 = columns["key1"], key2 = columns["key2"]
        cdef uint64_t[::1] samples = columns["samples"], octets = columns["octets"]
        cdef double[::1] squares = columns["squares"]
        cdef uint32_t[::1] largest = columns["largest"]
        cdef uint32_t[::1] slot = sources["source"], source_largest = sources["largest"]
        cdef uint64_t[::1] source_samples = sources["samples"], growth = sources["growth"]
        cdef uint64_t[::1] grown = sources["grown"], stated = sources["stated"]
        cdef uint64_t[::1] stated_grown = sources["stated_grown"]
        if table:
            with nogil:
                for i in range(k):
                    entry = &table.entries[i]
                    key0[i], key1[i], key2[i] = entry.key0, entry.key1, entry.key2
                    samples[i], octets[i], squares[i] = entry.samples, entry.octets, entry.squares
                    largest[i] = entry.largest
                for i in range(s):
                    source = &table.sources[table.touched[i]]
                    slot[i] = table.touched[i]
                    source_samples[i], growth[i] = source.samples, source.growth
                    grown[i] = source.samples - source.ungrown
                    stated[i], stated_grown[i] = source.stated, source.stated - source.stated_ungrown
                    source_largest[i] = <uint32_t>source.largest
                clear_table(table)
                self.ring[ring_place] = NULL
                self.free_tables[self.n_free] = table
                self.n_free += 1
        self.first += 1
        return columns, sources

    def unclassified(self):
        """Describe the unclassified rows by server address, protocol and service port."""
        cdef Py_ssize_t n = self.talkers.n, i
        cdef uint32_t place
        cdef Talker* talker
        columns = {name: np.zeros(n + 1, np.uint64) for name in ("address_hi", "address_lo")}
        columns |= {name: np.zeros(n + 1, np.uint8) for name in ("ip_version", "protocol")}
        columns |= {"port": np.zeros(n + 1, np.uint16)}
        columns |= {name: np.zeros(n + 1, np.uint64) for name in ("samples", "octets", "scaled_octets")}
        cdef uint64_t[::1] hi = columns["address_hi"], lo = columns["address_lo"]
        cdef uint8_t[::1] version = columns["ip_version"], protocol = columns["protocol"]
        cdef uint16_t[::1] port = columns["port"]
        cdef uint64_t[::1] samples = columns["samples"], octets = columns["octets"]
        cdef uint64_t[::1] scaled = columns["scaled_octets"]
        for place in range(self.talkers.mask + 1):
            talker = &self.talkers.slots[place]
            if not talker.used:
                continue
            i = talker.used
            hi[i], lo[i] = talker.hi, talker.lo
            version[i], protocol[i] = talker.what >> 24, talker.what >> 16 & 0xFF
            port[i] = talker.what & 0xFFFF
            samples[i], octets[i], scaled[i] = talker.samples, talker.octets, talker.scaled
        talker = &self.talkers.other
        samples[0], octets[0], scaled[0] = talker.samples, talker.octets, talker.scaled
        return columns

    def clear_unclassified(self):
        """Forget the unclassified talkers."""
        forget_talkers(&self.talkers)
