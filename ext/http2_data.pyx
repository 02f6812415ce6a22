# Split what an HTTP/2 connection receives into gRPC messages and control frames: class DataSplitter. The twin is
# telemetryd/ingest/gnmi/http2_data_reference.py, which says what the steps mean and draws the frames.
#
# There are hundreds of connections, most of which receive little at a time: buffers begin small and grow by what comes.
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from _cursor cimport load32

import numpy as np

from telemetryd.ingest.gnmi import http2_data_reference as _twin

Step = _twin.Step

cdef enum:
    WAIT = 0
    CONTROL = 1
    FULL = 2
    ENDED = 3
    COMPRESSED = 4
    OVERSIZED = 5
    FRAME_SIZE = 6
    FRAME_HEADER = 9
    MESSAGE_HEADER = 5
    DATA = 0
    END_STREAM = 0x1
    PADDED = 0x8
    GROW = 7                       # the payload needs more room
    GROW_LISTS = 8                 # more messages are whole than can be listed
    FIRST_INPUT = 32 << 10         # octets; a frame and the header of the next one fit
    FIRST_PAYLOAD = 16 << 10
    LARGE_PAYLOAD = 1 << 20        # it is given back when it is not needed any more
    FIRST_MESSAGES = 256

cdef uint32_t MAX_FRAME = _twin.MAX_FRAME
cdef Py_ssize_t INPUT_OCTETS = _twin.INPUT_OCTETS
cdef Py_ssize_t MAX_MESSAGES = _twin.MAX_MESSAGES
cdef tuple STEPS = tuple(Step)

assert FRAME_HEADER == _twin.FRAME_HEADER and MESSAGE_HEADER == _twin.MESSAGE_HEADER
assert [WAIT, CONTROL, FULL, ENDED, COMPRESSED, OVERSIZED, FRAME_SIZE] == list(STEPS)


cdef class DataSplitter:
    cdef readonly bytes control
    cdef readonly int64_t control_frames, empty_frames
    cdef object input_array, payload_array, offsets, lengths
    cdef uint8_t[::1] input, payload
    cdef int64_t[::1] offset, length
    cdef Py_ssize_t longest, start, end      # of the input that is not looked at yet
    cdef Py_ssize_t filled, taken, n
    cdef uint32_t stream, left
    cdef bint ends, is_full                  # whether whole messages wait that were not listed
    cdef bint is_short                       # whether the last read filled the input
    cdef int64_t flow

    def __cinit__(self, Py_ssize_t max_message_octets):
        if not 0 < max_message_octets < <Py_ssize_t>1 << 31:
            raise ValueError("a message has 1 to 2^31 - 1 octets")
        self.longest = max_message_octets
        self.input_array, self.payload_array = np.zeros(FIRST_INPUT, np.uint8), np.zeros(FIRST_PAYLOAD, np.uint8)
        self.input, self.payload = self.input_array, self.payload_array
        self.have_lists(FIRST_MESSAGES)
        self.control = b""

    def room(self):
        """Return where received octets are to be written; at least a frame fits."""
        if self.start:
            memmove(&self.input[0], &self.input[self.start], self.end - self.start)
            self.end -= self.start
            self.start = 0
        if self.is_short and self.input.shape[0] < INPUT_OCTETS:
            larger = np.zeros(min(4 * self.input.shape[0], INPUT_OCTETS), np.uint8)
            larger[:self.end] = self.input_array[:self.end]
            self.input_array = self.input = larger
        self.is_short = False
        return memoryview(self.input_array)[self.end:]

    def received(self, Py_ssize_t n):
        """Take note of ``n`` octets that were written to the start of :meth:`room`."""
        if n < 0 or n > self.input.shape[0] - self.end:
            raise ValueError("more was received than there was room for")
        self.end += n
        self.is_short = self.end == self.input.shape[0]

    def open(self, uint32_t stream):
        """Take this stream's DATA frames from now on."""
        self.stream = stream

    def close(self):
        """Hand out all frames from now on."""
        self.stream = 0

    def step(self):
        """Go on until something is to be done, and say what."""
        cdef int status
        cdef Py_ssize_t octets
        while True:
            with nogil:
                status = self.advance()
            if status == GROW:
                self.grow(min(<Py_ssize_t>self.left, self.end - self.start))
            elif status == GROW_LISTS:
                self.have_lists(4 * self.offset.shape[0])
            else:
                break
        if status == CONTROL:
            octets = FRAME_HEADER + (load32(&self.input[self.start]) >> 8)
            self.control = bytes(memoryview(self.input_array)[self.start:self.start + octets])
            self.start += octets
            self.control_frames += 1
        return STEPS[status]

    def append(self, const uint8_t[::1] payload not None):
        """Take the payload of a DATA frame that came without its padding; return WAIT, FULL or what is wrong."""
        cdef Py_ssize_t octets = payload.shape[0]
        cdef int status
        if octets:
            if self.filled + octets > self.payload.shape[0]:
                self.grow(octets)
            memcpy(&self.payload[self.filled], &payload[0], octets)
            self.filled += octets
        status = self.list_messages()
        while status == GROW_LISTS:
            self.have_lists(4 * self.offset.shape[0])
            status = self.list_messages()
        return STEPS[status]

    def messages(self):
        """Return the whole messages since :meth:`release`: a buffer, and where in it they are, shape (n,) each."""
        return self.payload_array[:self.filled], self.offsets[:self.n], self.lengths[:self.n]

    def release(self):
        """Forget the messages: their buffer is used again."""
        if self.taken:
            if self.filled > self.taken:
                memmove(&self.payload[0], &self.payload[self.taken], self.filled - self.taken)
            self.filled -= self.taken
            self.taken = 0
            if self.payload.shape[0] > LARGE_PAYLOAD and self.filled < FIRST_PAYLOAD:
                smaller = np.zeros(FIRST_PAYLOAD, np.uint8)
                smaller[:self.filled] = self.payload_array[:self.filled]
                self.payload_array = self.payload = smaller
        self.n = 0

    def take_flow(self):
        """Return the flow-controlled octets since the last call (RFC 9113, 5.2)."""
        flow, self.flow = self.flow, 0
        return flow

    def has_part(self):
        """Tell whether a message has begun that is not whole."""
        return self.filled > self.taken

    cdef int grow(self, Py_ssize_t octets) except -1:
        """Have room for so many octets more. They are bounded: a message that is too long is refused by its header."""
        cdef object larger
        cdef Py_ssize_t needed = self.filled + octets
        larger = np.zeros(min(2 * needed, max(needed, self.longest + MESSAGE_HEADER + INPUT_OCTETS)), np.uint8)
        larger[:self.filled] = self.payload_array[:self.filled]
        self.payload_array = self.payload = larger
        return 0

    cdef int have_lists(self, Py_ssize_t messages) except -1:
        """Have room to list so many messages, MAX_MESSAGES at most."""
        cdef object offsets = np.zeros(min(messages, MAX_MESSAGES), np.int64)
        cdef object lengths = np.zeros(min(messages, MAX_MESSAGES), np.int64)
        if self.n:
            offsets[:self.n], lengths[:self.n] = self.offsets[:self.n], self.lengths[:self.n]
        self.offsets = self.offset = offsets
        self.lengths = self.length = lengths
        return 0

    cdef int advance(self) noexcept nogil:
        cdef Py_ssize_t chunk
        cdef uint32_t length, stream
        cdef uint8_t kind, flags
        cdef const uint8_t *header
        cdef int status
        while True:
            if self.left or self.ends or self.is_full:
                chunk = min(<Py_ssize_t>self.left, self.end - self.start)
                if chunk:
                    if self.filled + chunk > self.payload.shape[0]:
                        return GROW
                    memcpy(&self.payload[self.filled], &self.input[self.start], chunk)
                    self.filled += chunk
                    self.start += chunk
                    self.left -= <uint32_t>chunk
                    self.flow += chunk
                status = self.list_messages()
                if status != WAIT:
                    return status
                if self.left:
                    return WAIT
                if self.ends:
                    self.ends = False
                    self.stream = 0
                    return ENDED
            if self.end - self.start < FRAME_HEADER:
                return WAIT
            header = &self.input[self.start]
            length = load32(header) >> 8
            if length > MAX_FRAME:
                return FRAME_SIZE
            kind, flags = header[3], header[4]
            stream = load32(header + 5) & <uint32_t>0x7FFFFFFF
            if kind == DATA and self.stream and stream == self.stream and not flags & PADDED:
                self.start += FRAME_HEADER
                self.left, self.ends = length, (flags & END_STREAM) != 0
                self.empty_frames += length == 0 and not self.ends
                continue
            if self.end - self.start < FRAME_HEADER + <Py_ssize_t>length:
                return WAIT
            return CONTROL

    cdef int list_messages(self) noexcept nogil:
        cdef const uint8_t *at
        cdef Py_ssize_t length
        self.is_full = False
        while self.filled - self.taken >= MESSAGE_HEADER:
            at = &self.payload[self.taken]
            if at[0]:
                return COMPRESSED
            length = load32(at + 1)
            if length > self.longest:
                return OVERSIZED
            if self.filled - self.taken < MESSAGE_HEADER + length:
                return WAIT
            if self.n == self.offset.shape[0]:
                self.is_full = True
                return FULL if self.n == MAX_MESSAGES else GROW_LISTS
            self.offset[self.n], self.length[self.n] = self.taken + MESSAGE_HEADER, length
            self.n += 1
            self.taken += MESSAGE_HEADER + length
        return WAIT
