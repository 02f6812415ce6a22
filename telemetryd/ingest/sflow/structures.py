"""THE table of sFlow structures: (name space, enterprise, format) -> name and fields, as data.

Adding a structure is adding one entry: a line ``enterprise:format name field field ...``, continued
on indented lines. A field is ``name``, ``name:kind`` or, where publishers appended it later and short
records lack it, ``name?``; the kinds are those of :mod:`telemetryd.ingest.sflow.layout` and the
enumerations of :mod:`telemetryd.ingest.sflow.enumerations` (a bare name is an unsigned int). Names are
those of the published structures in snake_case; only ``name`` itself, which is the structure's own name
in the output, becomes ``port_name`` and ``acl_name``.

The three name spaces sample, flow and counter are independent (sFlow version 5, section 5): 0:1 means
something else in each. A tag that stands more than once has several layouts in circulation: the one
that consumes the record's length exactly is taken, and where none does the octets are kept raw.
"""

from __future__ import annotations

from typing import Final

from telemetryd.ingest.sflow.layout import Structure, parse_table

# sflow_version_5.txt (0:1 to 0:4), sflow_drops.txt (0:5), InMon's own (4300)
_SAMPLES: Final = """
0:1 flow_sample
    sequence_number source_id:source sampling_rate sample_pool drops input:interface output:interface
    records:flow_records
0:2 counters_sample sequence_number source_id:source records:counter_records
0:3 flow_sample
    sequence_number source_id:source_expanded sampling_rate sample_pool drops
    input:interface_expanded output:interface_expanded records:flow_records
0:4 counters_sample sequence_number source_id:source_expanded records:counter_records
0:5 discarded_packet
    sequence_number source_id:source_expanded drops input:port output:port reason:drop_reason
    records:flow_records
4300:1002 rtmetric datasource:string metrics:rtmetrics
4300:1003 rtflow datasource:string sampling_rate sample_pool fields:rtfields
"""

# sflow_version_5.txt (0:1 to 0:1012), sflow_80211.txt, the openflow draft, RFC 4625, sflow_pnat.txt,
# sflow_tunnels.txt, draft_sflow_infiniband_2.txt, sflow_drops.txt, sflow_transit.txt, host-sflow,
# sflow_host.txt, sflow_http.txt, sflow_memcache.txt, sflow_application.txt, the discussion list,
# bv-sflow.txt (4413), pmacct (43874)
_FLOW_RECORDS: Final = """
0:1 sampled_header protocol:header_protocol frame_length stripped header:opaque
0:2 sampled_ethernet length src_mac:mac dst_mac:mac type
0:3 sampled_ipv4 length protocol src_ip:ipv4 dst_ip:ipv4 src_port dst_port tcp_flags tos
0:4 sampled_ipv6 length protocol src_ip:ipv6 dst_ip:ipv6 src_port dst_port tcp_flags priority
0:1001 extended_switch src_vlan src_priority dst_vlan dst_priority
0:1002 extended_router nexthop:address src_mask_len dst_mask_len
0:1003 extended_gateway nexthop:address as src_as src_peer_as dst_as_path:as_path communities:list localpref
0:1004 extended_user src_charset:charset src_user:string dst_charset:charset dst_user:string
0:1005 extended_url direction:url_direction url:string host:string
0:1006 extended_mpls nexthop:address in_stack:labels out_stack:labels
0:1007 extended_nat src_address:address dst_address:address
0:1008 extended_mpls_tunnel tunnel_lsp_name:string tunnel_id tunnel_cos
0:1009 extended_mpls_vc vc_instance_name:string vll_vc_id vc_label_cos
0:1010 extended_mpls_ftn mpls_ftn_descr:string mpls_ftn_mask
0:1011 extended_mpls_ldp_fec mpls_fec_addr_prefix_length
0:1012 extended_vlantunnel stack:tags
0:1013 extended_80211_payload ciphersuite:cipher_suite data:opaque
0:1013 extended_80211_payload
    ciphersuite:cipher_suite protocol:header_protocol frame_length stripped header:opaque
0:1014 extended_80211_rx
    ssid:string bssid:mac version:ieee80211_version channel speed:hyper rsni rcpi packet_duration
0:1015 extended_80211_tx
    ssid:string bssid:mac version:ieee80211_version transmissions packet_duration retrans_duration channel
    speed:hyper power
0:1016 extended_80211_aggregation pdus:pdus
0:1017 extended_openflow_v1 flow_cookie:hyper flow_match flow_actions
0:1018 extended_fc src_mask_len dst_mask_len next_hop metric
0:1019 extended_queue_length queue_index queue_length
0:1020 extended_nat_port src_port dst_port
0:1021 extended_l2_tunnel_egress length src_mac:mac dst_mac:mac type
0:1022 extended_l2_tunnel_ingress length src_mac:mac dst_mac:mac type
0:1023 extended_ipv4_tunnel_egress length protocol src_ip:ipv4 dst_ip:ipv4 src_port dst_port tcp_flags tos
0:1024 extended_ipv4_tunnel_ingress length protocol src_ip:ipv4 dst_ip:ipv4 src_port dst_port tcp_flags tos
0:1025 extended_ipv6_tunnel_egress
    length protocol src_ip:ipv6 dst_ip:ipv6 src_port dst_port tcp_flags priority
0:1026 extended_ipv6_tunnel_ingress
    length protocol src_ip:ipv6 dst_ip:ipv6 src_port dst_port tcp_flags priority
0:1027 extended_decapsulate_egress inner_header_offset
0:1028 extended_decapsulate_ingress inner_header_offset
0:1029 extended_vni_egress vni
0:1030 extended_vni_ingress vni
0:1031 extended_ib_lrh src_vl src_sl src_dlid src_slid src_lnh dst_vl dst_sl dst_dlid dst_slid dst_lnh
0:1032 extended_ib_grh flow_label tc s_gid:octets16 d_gid:octets16 next_header length
0:1033 extended_ib_bth pkey dst_qp opcode
0:1034 extended_vlanin stack:tags
0:1035 extended_vlanout stack:tags
0:1036 extended_egress_queue queue
0:1037 extended_acl number acl_name:string direction:acl_direction
0:1038 extended_function symbol:string
0:1039 extended_transit delay
0:1040 extended_queue depth
0:1041 extended_hw_trap group:string trap:string
0:1042 extended_linux_drop_reason reason:string
0:1043 extended_timestamp nanoseconds:hyper
0:2000 transaction
    direction:transaction_direction wait duration status:transaction_status bytes_received:hyper
    bytes_send:hyper
0:2001 extended_nfs_storage_transaction path:string operation status
0:2002 extended_scsi_storage_transaction lun operation status
0:2003 extended_http_transaction url:string host:string referer:string useragent:string user:string status
0:2100 extended_socket_ipv4 protocol local_ip:ipv4 remote_ip:ipv4 local_port remote_port
0:2101 extended_socket_ipv6 protocol local_ip:ipv6 remote_ip:ipv6 local_port remote_port
0:2102 extended_proxy_socket_ipv4 protocol local_ip:ipv4 remote_ip:ipv4 local_port remote_port
0:2103 extended_proxy_socket_ipv6 protocol local_ip:ipv6 remote_ip:ipv6 local_port remote_port
0:2200 memcache_operation
    protocol:memcache_protocol cmd:memcache_command key:string nkeys value_bytes us status:memcache_status
0:2201 http_request
    method:http_method uri:string host:string referer:string useragent:string authuser:string bytes us
    status:int
0:2201 http_request
    method:http_method protocol uri:string host:string referer:string useragent:string authuser:string
    mime_type:string resp_bytes:hyper us status:int
0:2201 http_request
    method:http_method uri:string host:string referer:string useragent:string xff:string authuser:string
    mime_type:string req_bytes:hyper resp_bytes:hyper us status:int
0:2202 app_operation
    application:string operation:string attributes:string status_descr:string req_bytes:hyper
    resp_bytes:hyper us status:application_status
0:2203 app_parent_context application:string operation:string attributes:string
0:2204 app_initiator actor:string
0:2205 app_target actor:string
0:2206 http_request
    method:http_method protocol uri:string host:string referer:string useragent:string xff:string
    authuser:string mime_type:string req_bytes:hyper resp_bytes:hyper us status:int
0:2207 extended_proxy_request uri:string host:string
0:2208 extended_nav_timing
    type redirect_count navigation_start unload_event_start unload_event_end redirect_start redirect_end
    fetch_start domain_lookup_start domain_lookup_end connect_start connect_end secure_connection_start
    request_start response_start response_end dom_loading dom_interactive dom_content_loaded_event_start
    dom_content_loaded_event_end dom_complete load_event_start load_event_end
0:2209 extended_tcp_info
    dir:packet_direction snd_mss rcv_mss unacked lost retrans pmtu rtt rttvar snd_cwnd reordering min_rtt
0:2210 extended_entities src_ds_class src_ds_index dst_ds_class dst_ds_index
4413:1 extended_bst_egress_queue queue
43874:1 pmacct_class class:text16
43874:2 pmacct_tag tag:hyper tag2:hyper
43874:3 pmacct_class2 master_protocol app_protocol
"""

# sflow_version_5.txt, sflow_80211.txt (0:6, 0:1002), sflow_lag.txt, draft_sflow_infiniband_2.txt,
# sflow_optics.txt, draft_sflow_pfc.txt, sflow_openflow.txt, sflow_host.txt, sflow_host_ip.txt,
# sflow_jvm.txt, sflow_http.txt, sflow_application.txt, sflow_memcache.txt, the discussion list (0:3000
# to 0:3003), bv-sflow.txt and sflow_broadcom_tables.txt (4413), sflow_nvml.txt (5703)
_COUNTER_RECORDS: Final = """
0:1 if_counters
    if_index if_type if_speed:hyper if_direction:if_direction if_status if_in_octets:hyper if_in_ucast_pkts
    if_in_multicast_pkts if_in_broadcast_pkts if_in_discards if_in_errors if_in_unknown_protos
    if_out_octets:hyper if_out_ucast_pkts if_out_multicast_pkts if_out_broadcast_pkts if_out_discards
    if_out_errors if_promiscuous_mode
0:2 ethernet_counters
    dot3_stats_alignment_errors dot3_stats_fcs_errors dot3_stats_single_collision_frames
    dot3_stats_multiple_collision_frames dot3_stats_sqe_test_errors dot3_stats_deferred_transmissions
    dot3_stats_late_collisions dot3_stats_excessive_collisions dot3_stats_internal_mac_transmit_errors
    dot3_stats_carrier_sense_errors dot3_stats_frame_too_longs dot3_stats_internal_mac_receive_errors
    dot3_stats_symbol_errors
0:3 tokenring_counters
    dot5_stats_line_errors dot5_stats_burst_errors dot5_stats_ac_errors dot5_stats_abort_trans_errors
    dot5_stats_internal_errors dot5_stats_lost_frame_errors dot5_stats_receive_congestions
    dot5_stats_frame_copied_errors dot5_stats_token_errors dot5_stats_soft_errors dot5_stats_hard_errors
    dot5_stats_signal_loss dot5_stats_transmit_beacons dot5_stats_recoverys dot5_stats_lobe_wires
    dot5_stats_removes dot5_stats_singles dot5_stats_freq_errors
0:4 vg_counters
    dot12_in_high_priority_frames dot12_in_high_priority_octets:hyper dot12_in_norm_priority_frames
    dot12_in_norm_priority_octets:hyper dot12_in_ipm_errors dot12_in_oversize_frame_errors
    dot12_in_data_errors dot12_in_null_addressed_frames dot12_out_high_priority_frames
    dot12_out_high_priority_octets:hyper dot12_transition_into_trainings
    dot12_hc_in_high_priority_octets:hyper dot12_hc_in_norm_priority_octets:hyper
    dot12_hc_out_high_priority_octets:hyper
0:5 vlan_counters vlan_id octets:hyper ucast_pkts multicast_pkts broadcast_pkts discards
0:6 ieee80211_counters
    dot11_transmitted_fragment_count dot11_multicast_transmitted_frame_count dot11_failed_count
    dot11_retry_count dot11_multiple_retry_count dot11_frame_duplicate_count dot11_rts_success_count
    dot11_rts_failure_count dot11_ack_failure_count dot11_received_fragment_count
    dot11_multicast_received_frame_count dot11_fcs_error_count dot11_transmitted_frame_count
    dot11_wep_undecryptable_count dot11_qos_discarded_fragment_count dot11_associated_station_count
    dot11_qos_cf_polls_received_count dot11_qos_cf_polls_unused_count dot11_qos_cf_polls_unusable_count
    dot11_qos_cf_polls_lost_count
0:7 lag_port_stats
    dot3ad_agg_port_actor_system_id:mac dot3ad_agg_port_partner_oper_system_id:mac
    dot3ad_agg_port_attached_agg_id dot3ad_agg_port_state:octets4 dot3ad_agg_port_stats_lacpdus_rx
    dot3ad_agg_port_stats_marker_pdus_rx dot3ad_agg_port_stats_marker_response_pdus_rx
    dot3ad_agg_port_stats_unknown_rx dot3ad_agg_port_stats_illegal_rx dot3ad_agg_port_stats_lacpdus_tx
    dot3ad_agg_port_stats_marker_pdus_tx dot3ad_agg_port_stats_marker_response_pdus_tx
0:8 slow_path_counts unknown other cam_miss cam_full no_hw_support cntrl
0:9 ib_counters
    port_xmit_pkts:hyper port_rcv_pkts:hyper symbol_error_counter link_error_recovery_counter
    link_downed_counter port_rcv_errors port_rcv_remote_physical_errors port_rcv_switch_relay_errors
    port_xmit_discards port_xmit_constraint_errors port_rcv_constraint_errors local_link_integrity_errors
    excessive_buffer_overrun_errors vl15_dropped
0:10 sfp module_id module_num_lanes module_supply_voltage module_temperature:int lanes:lanes
0:11 pfc_counters requests indications pause_duration storm_detected storm_restored
0:1001 processor 5s_cpu 1m_cpu 5m_cpu total_memory:hyper free_memory:hyper
0:1002 radio_utilization elapsed_time on_channel_time on_channel_busy_time
0:1003 queue_length
    queue_index segment_size queue_segments queue_length0 queue_length1 queue_length2 queue_length4
    queue_length8 queue_length32 queue_length128 queue_length1024 queue_length_more dropped
0:1004 of_port datapath_id:hyper port_no
0:1005 port_name port_name:string
0:2000 host_descr hostname:string uuid:uuid machine_type:machine_type os_name:os_name os_release:string
0:2001 host_adapters adapters:adapters
0:2002 host_parent container_type container_index
0:2003 host_cpu
    load_one:float load_five:float load_fifteen:float proc_run proc_total cpu_num cpu_speed uptime cpu_user
    cpu_nice cpu_system cpu_idle cpu_wio cpu_intr cpu_sintr interrupts contexts cpu_steal? cpu_guest?
    cpu_guest_nice?
0:2004 host_memory
    mem_total:hyper mem_free:hyper mem_shared:hyper mem_buffers:hyper mem_cached:hyper swap_total:hyper
    swap_free:hyper page_in page_out swap_in swap_out
0:2005 host_disk_io
    disk_total:hyper disk_free:hyper part_max_used reads bytes_read:hyper read_time writes
    bytes_written:hyper write_time
0:2006 host_net_io bytes_in:hyper pkts_in errs_in drops_in bytes_out:hyper packets_out errs_out drops_out
0:2007 mib2_ip_group
    ip_forwarding ip_default_ttl ip_in_receives ip_in_hdr_errors ip_in_addr_errors ip_forw_datagrams
    ip_in_unknown_protos ip_in_discards ip_in_delivers ip_out_requests ip_out_discards ip_out_no_routes
    ip_reasm_timeout ip_reasm_reqds ip_reasm_oks ip_reasm_fails ip_frag_oks ip_frag_fails ip_frag_creates
0:2008 mib2_icmp_group
    icmp_in_msgs icmp_in_errors icmp_in_dest_unreachs icmp_in_time_excds icmp_in_param_probs
    icmp_in_src_quenchs icmp_in_redirects icmp_in_echos icmp_in_echo_reps icmp_in_timestamps
    icmp_in_addr_masks icmp_in_addr_mask_reps icmp_out_msgs icmp_out_errors icmp_out_dest_unreachs
    icmp_out_time_excds icmp_out_param_probs icmp_out_src_quenchs icmp_out_redirects icmp_out_echos
    icmp_out_echo_reps icmp_out_timestamps icmp_out_timestamp_reps icmp_out_addr_masks
    icmp_out_addr_mask_reps
0:2009 mib2_tcp_group
    tcp_rto_algorithm tcp_rto_min tcp_rto_max tcp_max_conn tcp_active_opens tcp_passive_opens
    tcp_attempt_fails tcp_estab_resets tcp_curr_estab tcp_in_segs tcp_out_segs tcp_retrans_segs tcp_in_errs
    tcp_out_rsts tcp_in_csum_errs
0:2010 mib2_udp_group
    udp_in_datagrams udp_no_ports udp_in_errors udp_out_datagrams udp_rcvbuf_errors udp_sndbuf_errors
    udp_in_csum_errors
0:2100 virt_node mhz cpus memory:hyper memory_free:hyper num_domains
0:2101 virt_cpu state:domain_state cpu_time nr_virt_cpu
0:2102 virt_memory memory:hyper max_memory:hyper
0:2103 virt_disk_io
    capacity:hyper allocation:hyper physical:hyper rd_req rd_bytes:hyper wr_req wr_bytes:hyper errs
0:2104 virt_net_io rx_bytes:hyper rx_packets rx_errs rx_drop tx_bytes:hyper tx_packets tx_errs tx_drop
0:2105 jvm_runtime vm_name:string vm_vendor:string vm_version:string
0:2106 jvm_statistics
    heap_initial:hyper heap_used:hyper heap_committed:hyper heap_max:hyper non_heap_initial:hyper
    non_heap_used:hyper non_heap_committed:hyper non_heap_max:hyper gc_count gc_time classes_loaded
    classes_total classes_unloaded compilation_time thread_num_live thread_num_daemon thread_num_started
    fd_open_count? fd_max_count?
0:2200 memcached_counters
    uptime rusage_user rusage_system curr_connections total_connections connection_structures cmd_get
    cmd_set cmd_flush get_hits get_misses delete_misses delete_hits incr_misses incr_hits decr_misses
    decr_hits cas_misses cas_hits cas_badval auth_cmds auth_errors bytes_read:hyper bytes_written:hyper
    limit_maxbytes accepting_conns listen_disabled_num threads conn_yields bytes:hyper curr_items
    total_items evictions
0:2201 http_counters
    method_option_count method_get_count method_head_count method_post_count method_put_count
    method_delete_count method_trace_count method_connect_count method_other_count status_1xx_count
    status_2xx_count status_3xx_count status_4xx_count status_5xx_count status_other_count
0:2202 app_operations
    application:string success other timeout internal_error bad_request forbidden too_large not_implemented
    not_found unavailable unauthorized
0:2203 app_resources user_time system_time mem_used:hyper mem_max:hyper fd_open fd_max conn_open conn_max
0:2204 memcache_counters
    cmd_set cmd_touch cmd_flush get_hits get_misses delete_hits delete_misses incr_hits incr_misses
    decr_hits decr_misses cas_hits cas_misses cas_badval auth_cmds auth_errors threads conn_yields
    listen_disabled_num curr_connections rejected_connections total_connections connection_structures
    evictions reclaimed curr_items total_items bytes_read:hyper bytes_written:hyper bytes:hyper
    limit_maxbytes:hyper
0:2205 vdi_stats
    sessions_current sessions_total sessions_duration rx_bytes tx_bytes rx_packets tx_packets
    rx_packets_lost tx_packets_lost rtt_min_ms rtt_max_ms rtt_avg_ms audio_rx_bytes audio_tx_bytes
    audio_tx_limit img_rx_bytes img_tx_bytes img_frames img_qual_min img_qual_max img_qual_avg usb_rx_bytes
    usb_tx_bytes
0:2206 app_workers workers_active workers_idle workers_max req_delayed req_dropped
0:2207 ovs_dp_stats hits misses lost mask_hits flows masks
0:3000 energy voltage current real_power power_factor:int energy errors
0:3001 temperature minimum:int maximum:int errors
0:3002 humidity relative:int
0:3003 fans total failed speed
4413:1 bst_device_buffers uc_pc mc_pc
4413:2 bst_port_buffers
    ingress_uc_pc ingress_mc_pc egress_uc_pc egress_mc_pc egress_queue_uc_pc:list egress_queue_mc_pc:list
4413:2 bst_port_buffers
    ingress_uc_pc ingress_mc_pc egress_uc_pc egress_mc_pc egress_queue_uc_pc:eight egress_queue_mc_pc:eight
4413:3 hw_tables
    host_entries host_entries_max ipv4_entries ipv4_entries_max ipv6_entries ipv6_entries_max
    ipv4_ipv6_entries ipv4_ipv6_entries_max long_ipv6_entries long_ipv6_entries_max total_routes
    total_routes_max ecmp_nexthops ecmp_nexthops_max mac_entries mac_entries_max ipv4_neighbors
    ipv6_neighbors ipv4_routes ipv6_routes acl_ingress_entries acl_ingress_entries_max acl_ingress_counters
    acl_ingress_counters_max acl_ingress_meters acl_ingress_meters_max acl_ingress_slices
    acl_ingress_slices_max acl_egress_entries acl_egress_entries_max acl_egress_counters
    acl_egress_counters_max acl_egress_meters acl_egress_meters_max acl_egress_slices acl_egress_slices_max
5703:1 nvidia_gpu
    device_count processes gpu_time mem_time mem_total:hyper mem_free:hyper ecc_errors energy temperature
    fan_speed
"""

SAMPLES: Final[dict[int, tuple[Structure, ...]]] = parse_table("sample", _SAMPLES)
"""Sample types by data_format word (enterprise << 12 | format)."""
FLOW_RECORDS: Final[dict[int, tuple[Structure, ...]]] = parse_table("flow", _FLOW_RECORDS)
"""Flow records by data_format word: the layouts in circulation, usually one."""
COUNTER_RECORDS: Final[dict[int, tuple[Structure, ...]]] = parse_table("counter", _COUNTER_RECORDS)
"""Counter records by data_format word: the layouts in circulation, usually one."""

TABLE: Final[dict[tuple[str, int, int], tuple[Structure, ...]]] = {
    (layouts[0].space, layouts[0].enterprise, layouts[0].format): layouts
    for space in (SAMPLES, FLOW_RECORDS, COUNTER_RECORDS)
    for layouts in space.values()
}
"""Every structure by (name space, enterprise, format)."""
