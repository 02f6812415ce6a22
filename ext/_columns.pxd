# Pointers to the columns of telemetryd/schema.py that the sFlow decoder writes (header-only).
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef struct DatagramColumns:
    int64_t *ts_ns
    uint64_t *agent_hi
    uint64_t *agent_lo
    uint8_t *agent_version
    uint32_t *sub_agent_id
    uint32_t *sequence_number
    uint32_t *uptime


cdef struct SampleColumns:
    uint32_t *datagram
    uint32_t *sequence_number
    uint32_t *source_class
    uint32_t *source_index
    uint32_t *sampling_rate
    uint32_t *sample_pool
    uint32_t *drops
    uint8_t *input_format
    uint32_t *input
    uint8_t *output_format
    uint32_t *output
    uint32_t *frame_length
    uint8_t *flags
    uint16_t *vlan_id
    uint16_t *ether_type
    uint64_t *source_hi
    uint64_t *source_lo
    uint64_t *destination_hi
    uint64_t *destination_lo
    uint8_t *ip_version
    uint8_t *protocol
    uint8_t *dscp
    uint8_t *tcp_flags
    uint16_t *source_port
    uint16_t *destination_port


cdef struct CounterColumns:
    uint32_t *datagram
    uint32_t *sequence_number
    uint32_t *source_class
    uint32_t *source_index
    uint32_t *if_index
    uint32_t *if_type
    uint64_t *if_speed_bps
    uint32_t *if_direction
    uint32_t *if_status
    uint64_t *in_octets
    uint32_t *in_ucast_packets
    uint32_t *in_multicast_packets
    uint32_t *in_broadcast_packets
    uint32_t *in_discards
    uint32_t *in_errors
    uint32_t *in_unknown_protos
    uint64_t *out_octets
    uint32_t *out_ucast_packets
    uint32_t *out_multicast_packets
    uint32_t *out_broadcast_packets
    uint32_t *out_discards
    uint32_t *out_errors
