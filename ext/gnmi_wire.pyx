"""SubscribeResponse messages to rows of a batch (twin: telemetryd.ingest.gnmi.gnmi_wire_reference).

The twin draws the messages and says what a row is. Here they are walked without protobuf's classes; what is rare goes
to the twin's Reader, and a value in JSON with arrays or escapes to telemetryd.ingest.gnmi.values. A path is looked up
by its octets, and read by the Resolver when it is new.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from _cursor cimport Cursor, left, load32
from _gnmi_message cimport (ASCII_VAL, BOOL_VAL, BYTES_VAL, DECIMAL_VAL, DOUBLE_VAL, FLOAT_VAL, FULL, GOOD, INT_VAL,
                            NOT_JSON, NOT_PROTOBUF, NOT_TEXT, PROTO_BYTES, RARE, RARE_JSON, STRING_VAL, SYNC_RESPONSE,
                            UINT_VAL, UPDATE, Notification, Response, Typed, Update, next_span, read_notification,
                            read_response, read_typed, read_update)
from _gnmi_rows cimport (BAD_JSON, BAD_VALUE, BINS, BOOL, BYTES, COUNTS, DELETE, DOUBLE, DUPLICATES, EMPTY,
                         EMPTY_NOTIFICATIONS, INT, LIST, LONGEST_VALUE, MALFORMED, MESSAGES, NOT_UTF8, NOTIFICATIONS,
                         REPLACE, SYNC, SYNCS, TEXT, TIMESTAMP_AHEAD, TIMESTAMP_MISSING, TIMESTAMP_RESCALED, UINT,
                         UNASKED, VALUELESS, Mark, Place, Rows, count, emit, emit_octets, go_back, pass_rows, set_mark)
from _spellings cimport (MEMBER, NUMBER_OF_PATH, PATH, PREFIX, Spelling, Table, add_spelling, begin_table, end_table,
                         find_spelling, has_room)
from _text cimport (BROKEN, ESCAPED, FRACTION, LARGE, NEGATIVE, NO_NUMBER, JsonText, Number, pass_space, read_integer,
                    read_number, read_text, read_word)

import secrets

import numpy as np

from telemetryd.ingest.gnmi import gnmi_wire_reference as _twin
from telemetryd.ingest.gnmi import paths as _paths
from telemetryd.ingest.gnmi import values as _values
from telemetryd.ingest.gnmi.leaves import Hint as _Hint
from telemetryd.schema import UpdateFlag as _UpdateFlag
from telemetryd.schema import ValueKind as _ValueKind

cdef enum:
    HINT_NUMBER = 1
    HINT_FLOAT32 = 2
    HINT_TEXT = 3
    REFUSED_OVERFLOW = 1    # of Refusal
    REFUSED_MALFORMED = 2
    RECEIVED_TIME = 1
    DEEPEST = 64
    MOST_FRACTION_DIGITS = 18
    FLOAT32_IN_BASE64 = 8

cdef int64_t SECOND_NS = 1_000_000_000
cdef int64_t EARLIEST_NS = _twin.EARLIEST_NS
cdef int64_t LATEST_NS = _twin.LATEST_NS
cdef int64_t AHEAD_NS = _twin.AHEAD_NS
cdef size_t LONGEST_PATH = _paths.LONGEST_PATH
cdef uint64_t EVERYTHING = 0xFFFFFFFFFFFFFFFF
cdef int64_t EXACT = 1 << 53    # integers up to here are doubles
cdef int[8] COUNT_OF_REFUSAL
for _why, _name in _twin.OF_REFUSAL.items():
    COUNT_OF_REFUSAL[<int>_why] = _twin.COUNTS.index(_name)
cdef double[MOST_FRACTION_DIGITS + 1] POWERS_OF_TEN
for _power in range(MOST_FRACTION_DIGITS + 1):
    POWERS_OF_TEN[_power] = float(10**_power)

assert COUNTS == len(_twin.COUNTS) and _twin.COUNTS[TIMESTAMP_AHEAD] == "timestamp_ahead"
assert [HINT_NUMBER, HINT_FLOAT32, HINT_TEXT] == [_Hint.NUMBER, _Hint.FLOAT32, _Hint.TEXT]
assert [INT, UINT, BOOL, DOUBLE, TEXT, BYTES, LIST, EMPTY, DELETE, REPLACE, SYNC] == list(_ValueKind)
assert [REFUSED_OVERFLOW, REFUSED_MALFORMED] == [_paths.Refusal.PATH_OVERFLOW, _paths.Refusal.MALFORMED]
assert RECEIVED_TIME == _UpdateFlag.RECEIVED_TIME
assert (BINS, LONGEST_VALUE, DEEPEST) == (_twin.BINS, _twin.LONGEST_VALUE, _values.DEEPEST)
assert (MOST_FRACTION_DIGITS, UNASKED) == (_values.MOST_FRACTION_DIGITS, _paths.UNASKED)


cdef class Decoder:
    cdef object batch, resolver, reader
    cdef tuple columns                  # what the pointers of `rows` point into
    cdef dict intervals
    cdef double[::1] bins_a_ns
    cdef str text_of_error
    cdef Table table
    cdef Rows rows
    # Of a message that comes in parts: the update to go on with, where it is and the step at its begin; and what Python
    # has read of it, or of a value in JSON that begins at a step.
    cdef size_t update_at
    cdef uint64_t updates_left, update_step, json_step
    cdef object read_whole, read_json_values
    cdef bint can_go_on
    cdef int64_t delay_ns, least_delay_ns, most_delay_ns, delays
    cdef bint is_long, has_delay

    def __cinit__(self, batch not None, uint32_t target, resolver not None, const int64_t[::1] asked_ns not None):
        cdef size_t most = _paths.SPELLINGS_A_PATH * <size_t>resolver.most_paths
        cdef uint32_t[::1] target_column = batch["target"], path_column = batch["path"]
        cdef int64_t[::1] ts_column = batch["ts_ns"], received_column = batch["received_ns"]
        cdef uint8_t[::1] kind_column = batch["kind"], flags_column = batch["flags"], text = batch.text
        cdef uint64_t[::1] value_column = batch["value"]
        if text.shape[0] < LONGEST_VALUE:
            raise ValueError(f"a batch's text holds {LONGEST_VALUE} octets at least")
        if asked_ns.shape[0] != resolver.n_subscriptions:
            raise ValueError("every subscription has an interval")
        if not begin_table(&self.table, secrets.randbits(64), <uint32_t>most + 1, most * _paths.OCTETS_A_SPELLING):
            raise MemoryError("no memory for paths")
        self.batch, self.resolver, self.reader = batch, resolver, _twin.Reader(resolver)
        self.columns = (target_column, path_column, ts_column, received_column, kind_column, flags_column,
                        value_column, text)
        if {len(column) for column in self.columns[:7]} != {batch.capacity} or not batch.capacity:
            raise ValueError("the columns differ in length")
        self.rows.target, self.rows.path = &target_column[0], &path_column[0]
        self.rows.ts_ns, self.rows.received_ns = &ts_column[0], &received_column[0]
        self.rows.kind, self.rows.flags, self.rows.value = &kind_column[0], &flags_column[0], &value_column[0]
        self.rows.text, self.rows.text_capacity = &text[0], text.shape[0]
        self.rows.capacity, self.rows.number = batch.capacity, target
        # One more, so that there is something to point at.
        self.bins_a_ns = np.array([_twin.BINS_AN_INTERVAL / ns if ns > 0 else 0.0 for ns in asked_ns] + [0.0])
        self.rows.bins_a_ns = &self.bins_a_ns[0]
        self.text_of_error = ""
        self.take_intervals()

    def __dealloc__(self):
        end_table(&self.table)

    @property
    def counts(self):
        """Return what came, and what was left out and why: name -> number."""
        return {name: self.rows.counted[i] for i, name in enumerate(_twin.COUNTS)}

    @property
    def error(self):
        """Return the text of the last message of the deprecated kind Error."""
        return self.text_of_error

    def take_intervals(self):
        """Return how far apart values of the same leaf were, per subscription, since the last call."""
        cdef Py_ssize_t n = self.bins_a_ns.shape[0]
        cdef int64_t[::1] numbers, sums, most
        cdef int64_t[:, ::1] histogram
        found, self.intervals = self.intervals, _twin.no_intervals(n)
        numbers, sums, most = self.intervals["n"], self.intervals["sum_ns"], self.intervals["most_ns"]
        histogram = self.intervals["histogram"]
        self.rows.intervals, self.rows.sum_ns, self.rows.most_ns = &numbers[0], &sums[0], &most[0]
        self.rows.histogram = &histogram[0, 0]
        return found and {name: column[:n - 1] for name, column in found.items()}

    def take_delay(self):
        """Return notifications with a usable time since the last call, and the least and the greatest delay in ns."""
        found = (self.delays, self.least_delay_ns, self.most_delay_ns)
        self.delays = self.least_delay_ns = self.most_delay_ns = 0
        return found

    def decode(self, const uint8_t[::1] octets not None, const int64_t[::1] offsets not None,
               const int64_t[::1] lengths not None, Py_ssize_t first, int64_t received_ns):
        """Read messages into the batch until it is full; return the message to go on with once it is empty."""
        cdef Py_ssize_t i, n = offsets.shape[0]
        cdef size_t length
        cdef Cursor message
        cdef Rows *rows = &self.rows
        if first < 0:
            raise ValueError("the first message is number 0")
        _twin.check_spans(octets.shape[0], np.asarray(offsets), np.asarray(lengths))
        rows.n, rows.text_n, rows.now_ns = self.batch.n, self.batch.text_n, received_ns
        if rows.n > rows.capacity or rows.text_n > rows.text_capacity:
            raise ValueError("the batch holds more than it can")
        i = first
        try:
            with nogil:
                while i < n:
                    length = <size_t>lengths[i]
                    if rows.n and (rows.capacity - rows.n < length // 2 or rows.text_capacity - rows.text_n < length):
                        break
                    message.at = &octets[offsets[i]] if length else NULL
                    message.end = message.at + length
                    if self.take_message(message) == FULL:
                        break
                    i += 1
        finally:
            self.batch.n, self.batch.text_n = rows.n, rows.text_n
        return max(i, first)

    # --- messages -----------------------------------------------------------------------------------------------

    cdef int take_message(self, Cursor message) except -1 nogil:
        """Take a message whole, or count why it is refused; FULL where a part has to follow."""
        cdef Rows *rows = &self.rows
        cdef Mark mark
        cdef uint64_t skip = rows.skip
        cdef int status = GOOD
        rows.step = 0
        set_mark(rows, &mark)
        self.is_long = left(message) // 2 > rows.capacity or left(message) > rows.text_capacity
        if self.can_go_on and self.read_whole is not None:
            status = RARE
        elif self.is_long and not self.can_go_on:  # it may come in parts: see first whether it can be taken
            rows.skip = EVERYTHING
            status = self.walk_response(message)
            rows.skip, rows.step = skip, 0
        if status == GOOD:
            self.has_delay = False
            status = self.walk_response(message)
        if status == RARE:
            go_back(rows, &mark)
            self.has_delay = False
            status = self.read_rare(message)
        if status == FULL:
            rows.skip = rows.step
            self.can_go_on = True
            return FULL
        self.forget_parts()
        if status != GOOD:
            go_back(rows, &mark)
            self.has_delay = False
            rows.counted[NOT_UTF8 if status == NOT_TEXT else MALFORMED] += 1
        rows.skip = 0
        rows.counted[MESSAGES] += 1
        if self.has_delay:
            self.least_delay_ns = min(self.least_delay_ns, self.delay_ns) if self.delays else self.delay_ns
            self.most_delay_ns = max(self.most_delay_ns, self.delay_ns) if self.delays else self.delay_ns
            self.delays += 1
        return GOOD

    cdef int forget_parts(self) except -1 nogil:
        """Forget how far a message was read."""
        self.can_go_on, self.updates_left = False, 0
        if self.is_long:
            with gil:
                self.read_whole = self.read_json_values = None
        return 0

    cdef int walk_response(self, Cursor message) except -1 nogil:
        cdef Response response
        cdef Place place
        cdef int status = read_response(message, &response)
        if status != GOOD:
            return status
        if response.field == UPDATE:
            return self.walk_notification(response.update)
        if response.field == SYNC_RESPONSE:
            count(&self.rows, SYNCS, 1)
            place.spelling, place.ts_ns, place.flags = 0, self.rows.now_ns, 0
            return emit(&self.rows, &self.table.spellings[0], &place, SYNC, 0)
        return GOOD

    cdef int walk_notification(self, Cursor c) except -1 nogil:
        cdef Notification found
        cdef Cursor span
        cdef Place place
        cdef uint32_t above = 0
        cdef int status = read_notification(c, &found)
        if status != GOOD:
            return status
        count(&self.rows, NOTIFICATIONS, 1)
        self.tell_time(found.timestamp, &place)
        if not (found.updates or found.deletes or found.atomic):
            count(&self.rows, EMPTY_NOTIFICATIONS, 1)
        status = self.find_prefix(found.prefix, &above)
        if status == GOOD and found.atomic:
            span.at = span.end = NULL
            status = self.remove(above, span, &place, REPLACE)
        c = found.fields
        while status == GOOD and found.deletes and next_span(&c, 5, &span):
            found.deletes -= 1
            status = self.remove(above, span, &place, DELETE)
        c = found.fields
        if status == GOOD and self.can_go_on and self.updates_left:
            # All before this update is in earlier batches.
            c.at += self.update_at
            found.updates, self.rows.step = self.updates_left, self.update_step
        while status == GOOD and found.updates:
            if self.rows.skip != EVERYTHING:
                self.update_at = <size_t>(c.at - found.fields.at)
                self.updates_left, self.update_step = found.updates, self.rows.step
            if not next_span(&c, 4, &span):
                break
            found.updates -= 1
            status = self.walk_update(above, span, &place)
        return status

    cdef int remove(self, uint32_t above, Cursor path, Place *place, uint8_t kind) except -1 nogil:
        cdef int status = self.find_path(above, path, place)
        if status == GOOD and place.spelling:
            return emit(&self.rows, &self.table.spellings[place.spelling], place, kind, 0)
        return status

    cdef int walk_update(self, uint32_t above, Cursor c, Place *place) except -1 nogil:
        cdef Update update
        cdef Typed typed
        cdef int status = read_update(c, &update)
        if status == GOOD:
            status = read_typed(update.value, &typed)  # what is wrong with it counts though the path is refused
        if status != GOOD:
            return status
        if update.duplicates:
            count(&self.rows, DUPLICATES, update.duplicates)
        status = self.find_path(above, update.path, place)
        return self.take_value(&typed, place) if status == GOOD and place.spelling else status

    cdef int take_value(self, const Typed *typed, Place *place) except -1 nogil:
        cdef Spelling *spelling = &self.table.spellings[place.spelling]
        cdef uint32_t field = typed.field, word
        cdef float single
        if field == UINT_VAL:
            return emit(&self.rows, spelling, place, UINT, typed.value)
        if field == INT_VAL:
            return emit(&self.rows, spelling, place, INT, typed.value)
        if field == STRING_VAL or field == ASCII_VAL:
            return self.take_text(place, typed.span, False)
        if field == BOOL_VAL:
            return emit(&self.rows, spelling, place, BOOL, typed.value != 0)
        if field == DOUBLE_VAL or field == FLOAT_VAL:
            return emit(&self.rows, spelling, place, DOUBLE, typed.value)
        if field == BYTES_VAL and spelling.hint == HINT_FLOAT32 and left(typed.span) == 4:
            word = load32(typed.span.at)
            memcpy(&single, &word, sizeof(single))
            return self.emit_double(place, single)
        if field == BYTES_VAL or field == PROTO_BYTES:
            return emit_octets(&self.rows, spelling, place, BYTES, typed.span)
        if field == DECIMAL_VAL:
            if typed.precision > MOST_FRACTION_DIGITS:
                count(&self.rows, BAD_VALUE, 1)
                return GOOD
            if not -EXACT <= <int64_t>typed.value <= EXACT:
                return RARE
            return self.emit_double(place, <double><int64_t>typed.value / POWERS_OF_TEN[typed.precision])
        if field:
            return self.take_json(typed.span, place)
        count(&self.rows, VALUELESS, 1)
        return GOOD

    cdef void tell_time(self, int64_t timestamp, Place *place) noexcept nogil:
        """Find a notification's time."""
        cdef int64_t factor = 1
        while factor <= SECOND_NS:
            if EARLIEST_NS // factor <= timestamp < LATEST_NS // factor:
                place.ts_ns, place.flags = timestamp * factor, 0
                if factor > 1:
                    count(&self.rows, TIMESTAMP_RESCALED, 1)
                elif timestamp > self.rows.now_ns + AHEAD_NS:
                    count(&self.rows, TIMESTAMP_AHEAD, 1)
                self.has_delay, self.delay_ns = True, self.rows.now_ns - place.ts_ns
                return
            factor *= 1000
        count(&self.rows, TIMESTAMP_MISSING, 1)
        place.ts_ns, place.flags = self.rows.now_ns, RECEIVED_TIME

    cdef int emit_double(self, const Place *place, double number) except -1 nogil:
        cdef uint64_t value
        memcpy(&value, &number, sizeof(value))
        return emit(&self.rows, &self.table.spellings[place.spelling], place, DOUBLE, value)

    cdef int take_text(self, const Place *place, Cursor text, bint is_json) except -1 nogil:
        """Take a text, or the number that it is."""
        cdef Spelling *spelling = &self.table.spellings[place.spelling]
        cdef Cursor c = text
        cdef uint64_t value = 0
        cdef Number kind
        if spelling.hint == HINT_NUMBER or (is_json and spelling.hint != HINT_TEXT):
            kind = read_integer(&c, &value)
            if kind != NO_NUMBER:
                if kind == LARGE or (spelling.hint == HINT_NUMBER and left(c)):
                    return self.reread_text(place, text, is_json)
                if not left(c) and (kind == NEGATIVE or text.at[0] != c'-'):
                    return emit(&self.rows, spelling, place, INT if kind == NEGATIVE else UINT, value)
            if is_json and spelling.hint == HINT_FLOAT32 and left(text) == FLOAT32_IN_BASE64:
                return self.reread_text(place, text, is_json)
        return emit_octets(&self.rows, spelling, place, TEXT, text)

    # --- paths --------------------------------------------------------------------------------------------------

    cdef int find_prefix(self, Cursor prefix, uint32_t *above) except -1 nogil:
        """Find what stands before every path of a notification."""
        cdef uint64_t h = 0
        if not left(prefix):
            return GOOD
        above[0] = find_spelling(&self.table, 0, PREFIX, prefix.at, left(prefix), &h)
        if above[0] == 0:
            if left(prefix) > LONGEST_PATH or not has_room(&self.table, left(prefix)):
                return RARE
            above[0] = self.add(h, 0, PREFIX, prefix)
        return GOOD

    cdef int find_path(self, uint32_t above, Cursor path, Place *place) except -1 nogil:
        """Find a path; one that is refused is counted, and place.spelling is 0."""
        cdef uint64_t h = 0
        cdef uint32_t found = find_spelling(&self.table, above, PATH, path.at, left(path), &h)
        if found:
            return self.settle(self.table.spellings[found].path, self.table.spellings[found].hint, found, place)
        if not has_room(&self.table, left(path)):
            return self.settle(0, REFUSED_OVERFLOW, 0, place)
        return self.learn_path(h, above, path, place)

    cdef int find_member(self, const Place *parent, Cursor name, Place *place) except -1 nogil:
        """Find the path of an object's member."""
        cdef uint64_t h = 0
        cdef uint32_t found = find_spelling(&self.table, parent.spelling, MEMBER, name.at, left(name), &h)
        place.ts_ns, place.flags = parent.ts_ns, parent.flags
        if found:
            return self.settle(self.table.spellings[found].path, self.table.spellings[found].hint, found, place)
        if not has_room(&self.table, left(name)):
            return self.settle(0, REFUSED_OVERFLOW, 0, place)
        return self.learn_member(h, parent.spelling, name, place)

    cdef int settle(self, uint32_t path, uint8_t hint, uint32_t spelling, Place *place) noexcept nogil:
        """Take what is known of a path: its spelling, or the reason why it has no number."""
        place.spelling = spelling if path else 0
        if path:
            return GOOD
        if hint == REFUSED_MALFORMED:
            return NOT_PROTOBUF
        count(&self.rows, COUNT_OF_REFUSAL[hint], 1)
        return GOOD

    cdef int learn_path(self, uint64_t h, uint32_t above, Cursor path, Place *place) except -1 with gil:
        cdef const Spelling *prefix = &self.table.spellings[above]
        known = self.resolver.wire(self.table.octets[prefix.offset:prefix.offset + prefix.length], octets_of(path))
        return self.learn(known, h, above, PATH, path, place)

    cdef int learn_member(self, uint64_t h, uint32_t above, Cursor name, Place *place) except -1 with gil:
        known = self.resolver.child(self.table.spellings[above].path, octets_of(name).decode())
        return self.learn(known, h, above, MEMBER, name, place)

    cdef int learn(self, known, uint64_t h, uint32_t above, uint8_t kind, Cursor octets, Place *place) except -1:
        """Keep what is known of a spelling that is new; not of one that is too long."""
        cdef uint32_t number = 0
        if left(octets) <= LONGEST_PATH:
            number = self.add(h, above, kind, octets)
            self.table.spellings[number].path, self.table.spellings[number].hint = known.path, known.hint
            self.table.spellings[number].subscription = known.subscription
        return self.settle(known.path, known.hint, number, place)

    cdef uint32_t add(self, uint64_t h, uint32_t above, uint8_t kind, Cursor octets) except 0 nogil:
        cdef uint32_t number = add_spelling(&self.table, h, above, kind, octets.at, left(octets))
        if number == 0:
            with gil:
                raise MemoryError("no memory for paths")
        return number

    # --- JSON ---------------------------------------------------------------------------------------------------

    cdef int take_json(self, Cursor json, const Place *place) except -1 nogil:
        """Take a value in JSON whole, or count that it is none."""
        cdef Rows *rows = &self.rows
        cdef Mark mark
        cdef uint64_t skip = rows.skip
        cdef int status = GOOD
        set_mark(rows, &mark)
        # It may come in parts: see first whether it can be taken, unless a part of it was.
        if self.is_long and skip != EVERYTHING and skip <= rows.step:
            rows.skip = EVERYTHING
            status = self.walk_json(json, place)
            rows.skip, rows.step = skip, mark.step
        if status == GOOD:
            status = self.walk_json(json, place)
        if status != NOT_JSON and status != RARE_JSON:
            return status
        go_back(rows, &mark)
        if status == RARE_JSON:
            return self.read_json(json, place)
        count(rows, BAD_JSON, 1)
        return GOOD

    cdef int walk_json(self, Cursor json, const Place *place) except -1 nogil:
        cdef int status
        pass_space(&json)
        status = self.walk_member(&json, place, 0)
        pass_space(&json)
        return NOT_JSON if status == GOOD and left(json) else status

    cdef int walk_object(self, Cursor *c, const Place *place, int depth) except -1 nogil:
        """Read an object behind its first brace."""
        cdef Cursor name
        cdef Place member
        cdef JsonText found
        cdef int status
        if depth > DEEPEST:
            return NOT_JSON
        pass_space(c)
        if read_word(c, b"}", 1):
            return GOOD
        while True:
            if not read_word(c, b'"', 1):
                return NOT_JSON
            found = read_text(c, &name)
            if found == ESCAPED:
                return RARE_JSON
            if found == BROKEN:
                return NOT_JSON
            pass_space(c)
            if not read_word(c, b":", 1):
                return NOT_JSON
            pass_space(c)
            member.spelling = 0
            if place.spelling:
                status = self.find_member(place, name, &member)
                if status != GOOD:
                    return status
            status = self.walk_member(c, &member, depth)
            if status != GOOD:
                return status
            pass_space(c)
            if read_word(c, b"}", 1):
                return GOOD
            if not read_word(c, b",", 1):
                return NOT_JSON
            pass_space(c)

    cdef int walk_member(self, Cursor *c, const Place *place, int depth) except -1 nogil:
        """Read a value; nothing is done with it where it has no place."""
        cdef Cursor span
        cdef JsonText found
        if not left(c[0]):
            return NOT_JSON
        if read_word(c, b'"', 1):
            found = read_text(c, &span)
            if found == ESCAPED:
                return RARE_JSON
            if found == BROKEN:
                return NOT_JSON
            return self.take_text(place, span, True) if place.spelling else GOOD
        if c.at[0] == c'-' or c'0' <= c.at[0] <= c'9':
            return self.walk_number(c, place)
        if read_word(c, b"{", 1):
            return self.walk_object(c, place, depth + 1)
        if c.at[0] == c'[':
            return RARE_JSON
        if read_word(c, b"true", 4):
            return self.take_word(place, BOOL, 1)
        if read_word(c, b"false", 5):
            return self.take_word(place, BOOL, 0)
        if read_word(c, b"null", 4):
            return self.take_word(place, EMPTY, 0)
        return NOT_JSON

    cdef int take_word(self, const Place *place, uint8_t kind, uint64_t value) noexcept nogil:
        if not place.spelling:
            return GOOD
        return emit(&self.rows, &self.table.spellings[place.spelling], place, kind, value)

    cdef int walk_number(self, Cursor *c, const Place *place) except -1 nogil:
        cdef uint64_t value = 0
        cdef int fraction = 0
        cdef bint negative = False
        cdef double number
        cdef Number kind = read_number(c, &value, &fraction, &negative)
        if kind == NO_NUMBER:
            return NOT_JSON
        if kind == LARGE:
            return RARE_JSON
        if kind == FRACTION and place.spelling:
            number = <double>value / POWERS_OF_TEN[fraction]
            return self.emit_double(place, -number if negative else number)
        return self.take_word(place, INT if kind == NEGATIVE else UINT, value)

    # --- what Python reads --------------------------------------------------------------------------------------

    cdef int read_rare(self, Cursor message) except -1 with gil:
        """Let the twin read a message."""
        cdef int status
        cdef Place place
        cdef size_t done
        read = self.read_whole if self.can_go_on else None
        if read is None:
            try:
                read = self.reader.read(octets_of(message), self.rows.now_ns)
            except _twin.MalformedError as reason:
                return NOT_TEXT if str(reason) == "not_utf8" else NOT_PROTOBUF
        if self.is_long:
            self.read_whole = read
        for name, number in read.counts.items():
            count(&self.rows, <int>_twin.COUNTS.index(name), number)
        done = pass_rows(&self.rows, <size_t>len(read.rows))
        for known, ts_ns, flags, (kind, content) in read.rows[done:]:
            place.ts_ns, place.flags = ts_ns, flags
            status = self.take(known, kind, content, &place)
            if status != GOOD:
                return status
        if read.error:
            self.text_of_error = read.error
        if read.delay_ns is not None:
            self.has_delay, self.delay_ns = True, read.delay_ns
        return GOOD

    cdef int read_json(self, Cursor json, const Place *place) except -1 with gil:
        """Let Python read a value in JSON."""
        cdef const Spelling *at = &self.table.spellings[place.spelling]
        cdef Place below
        cdef int status
        cdef size_t done
        known = _paths.Known(at.path, at.hint, at.subscription)
        if self.read_json_values is not None and self.json_step == self.rows.step:
            found = self.read_json_values
        else:
            try:
                found = _values.json_values(octets_of(json), known, self.resolver)
            except ValueError:
                count(&self.rows, BAD_JSON, 1)
                return GOOD
        if self.is_long:
            self.read_json_values, self.json_step = found, self.rows.step
        below.ts_ns, below.flags = place.ts_ns, place.flags
        done = pass_rows(&self.rows, <size_t>len(found))
        for known, value in found[done:]:
            if value is None:
                count(&self.rows, COUNT_OF_REFUSAL[<int>known.hint], 1)
                continue
            status = self.take(known, value.kind, value.content, &below)
            if status != GOOD:
                return status
        return GOOD

    cdef int reread_text(self, const Place *place, Cursor text, bint is_json) except -1 with gil:
        """Let Python see whether a text is a number."""
        cdef Spelling *spelling = &self.table.spellings[place.spelling]
        content = octets_of(text).decode()
        value = (_values.json_text if is_json else _values.text)(content, spelling.hint)
        if isinstance(value.content, bytes):
            return emit_octets(&self.rows, spelling, place, TEXT, text)
        return emit(&self.rows, spelling, place, value.kind, value.content)

    cdef int take(self, known, uint8_t kind, content, Place *place) except -1:
        """Take a row that Python made."""
        cdef uint64_t h = 0
        cdef uint32_t path = known.path, number
        cdef Cursor span
        cdef const uint8_t[::1] octets
        number = find_spelling(&self.table, 0, NUMBER_OF_PATH, <const uint8_t *>&path, sizeof(path), &h)
        if not number:
            span.at, span.end = <const uint8_t *>&path, <const uint8_t *>&path + sizeof(path)
            number = self.add(h, 0, NUMBER_OF_PATH, span)  # the resolver bounds the numbers
            self.table.spellings[number].path, self.table.spellings[number].hint = path, known.hint
            self.table.spellings[number].subscription = known.subscription
        place.spelling = number
        if not isinstance(content, bytes):
            return emit(&self.rows, &self.table.spellings[number], place, kind, content)
        octets = content
        span.at = &octets[0] if len(content) else NULL
        span.end = span.at + len(content)
        return emit_octets(&self.rows, &self.table.spellings[number], place, kind, span)


cdef bytes octets_of(Cursor span):
    return span.at[:left(span)] if left(span) else b""
