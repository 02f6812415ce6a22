/* libFuzzer target: the compiled sFlow decoder, without Python around it.
 *
 * sflow.c is what Cython makes of ext/sflow.pyx; it is included, so that its static functions can be called.
 * known_tags.h is made by run.py from the table of structures. An input is a datagram, decoded both ways
 * (with decapsulation and without); an over-read by one is seen by AddressSanitizer, and so is a row too
 * many, for the columns have exactly the room that the longest input needs.
 */
#include "sflow.c"

#include <stdio.h>

#include "known_tags.h"

#define LONGEST 4096
#define SAMPLES (LONGEST / 40)
#define COUNTERS (LONGEST / 96)
#define DECAPSULATED 16

typedef struct __pyx_t_6_sflow_Core Core;
#define decode_range __pyx_f_10telemetryd_4_ext_5sflow_decode_range
#define count_tag __pyx_f_5_tags_count_tag

static Core *outer; /* reports the outer packet, mostly by the short cut for common layouts */
static Core *inner; /* decapsulates, and takes the general way for every header */

#define ALLOCATE(field, rows) core->field = malloc(sizeof(*core->field) * (rows))
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
            abort(); \
        } \
    } while (0)
#define EVERY_SAMPLE_COLUMN(DO) \
    DO(datagram) DO(sequence_number) DO(source_class) DO(source_index) DO(sampling_rate) DO(sample_pool) \
    DO(drops) DO(input_format) DO(input) DO(output_format) DO(output) DO(frame_length) DO(flags) DO(vlan_id) \
    DO(ether_type) DO(source_hi) DO(source_lo) DO(destination_hi) DO(destination_lo) DO(ip_version) \
    DO(protocol) DO(dscp) DO(tcp_flags) DO(source_port) DO(destination_port)
#define EVERY_COUNTER_COLUMN(DO) \
    DO(datagram) DO(sequence_number) DO(source_class) DO(source_index) DO(if_index) DO(if_type) \
    DO(if_speed_bps) DO(if_direction) DO(if_status) DO(in_octets) DO(in_ucast_packets) \
    DO(in_multicast_packets) DO(in_broadcast_packets) DO(in_discards) DO(in_errors) DO(in_unknown_protos) \
    DO(out_octets) DO(out_ucast_packets) DO(out_multicast_packets) DO(out_broadcast_packets) \
    DO(out_discards) DO(out_errors)

static Core *make(int decapsulate)
{
    Core *core = calloc(1, sizeof(Core));
    core->decapsulate = decapsulate;
    core->datagrams_capacity = 1;
    core->samples_capacity = SAMPLES;
    core->counters_capacity = COUNTERS;
    ALLOCATE(datagrams.ts_ns, 1);
    ALLOCATE(datagrams.agent_hi, 1);
    ALLOCATE(datagrams.agent_lo, 1);
    ALLOCATE(datagrams.agent_version, 1);
    ALLOCATE(datagrams.sub_agent_id, 1);
    ALLOCATE(datagrams.sequence_number, 1);
    ALLOCATE(datagrams.uptime, 1);
#define DO(name) ALLOCATE(samples.name, SAMPLES);
    EVERY_SAMPLE_COLUMN(DO)
#undef DO
#define DO(name) ALLOCATE(counters.name, COUNTERS);
    EVERY_COUNTER_COLUMN(DO)
#undef DO
    for (size_t i = 0; i < sizeof known_samples / sizeof *known_samples; i++)
        count_tag(&core->known_samples, known_samples[i], 512);
    for (size_t i = 0; i < sizeof known_flow_records / sizeof *known_flow_records; i++)
        count_tag(&core->known_flow_records, known_flow_records[i], 512);
    for (size_t i = 0; i < sizeof known_counter_records / sizeof *known_counter_records; i++)
        count_tag(&core->known_counter_records, known_counter_records[i], 512);
    return core;
}

static void decode(Core *core, const uint8_t *data, size_t octets)
{
    const uint64_t offset = 0;
    const uint32_t length = (uint32_t)octets;
    const int64_t ts_ns = 1;
    /* What was counted before must not decide what is found now. */
    if (core->unknown_samples.used)
        memset(&core->unknown_samples, 0, sizeof core->unknown_samples);
    if (core->unknown_records.used)
        memset(&core->unknown_records, 0, sizeof core->unknown_records);
    CHECK(decode_range(core, data, octets, &offset, &length, &ts_ns, 1, 0) == 1);
    CHECK(core->n_datagrams <= 1);
    CHECK(core->n_samples <= octets / 40);
    CHECK(core->n_counters <= octets / 96);
    for (size_t i = 0; i < core->n_samples; i++) {
        CHECK(core->samples.datagram[i] == 0);
        CHECK(core->samples.vlan_id[i] < 4096);
        CHECK(core->samples.dscp[i] < 64);
        switch (core->samples.ip_version[i]) {
        case 0:
            CHECK(core->samples.source_lo[i] == 0 && core->samples.protocol[i] == 0);
            CHECK(core->samples.source_port[i] == 0);
            /* fall through */
        case 4:
            CHECK(core->samples.source_hi[i] == 0 && core->samples.destination_hi[i] == 0);
            CHECK(core->samples.source_lo[i] <= UINT32_MAX && core->samples.destination_lo[i] <= UINT32_MAX);
            break;
        default:
            CHECK(core->samples.ip_version[i] == 6);
        }
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    outer = make(0);
    inner = make(1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t octets)
{
    if (octets > LONGEST)
        return 0;
    decode(outer, data, octets);
    decode(inner, data, octets);
    /* Where there is no inner packet the short cut and the general way must have found the same. */
    CHECK(outer->n_datagrams == inner->n_datagrams);
    CHECK(outer->n_samples == inner->n_samples);
    CHECK(outer->n_counters == inner->n_counters);
    for (size_t i = 0; i < outer->n_samples; i++) {
        CHECK(outer->samples.frame_length[i] == inner->samples.frame_length[i]);
        CHECK(outer->samples.vlan_id[i] == inner->samples.vlan_id[i]);
        CHECK(outer->samples.ether_type[i] == inner->samples.ether_type[i]);
        if (inner->samples.flags[i] & DECAPSULATED)
            continue;
#define DO(name) CHECK(outer->samples.name[i] == inner->samples.name[i]);
        EVERY_SAMPLE_COLUMN(DO)
#undef DO
    }
    return 0;
}
