"""Enumerations of the published sFlow structures: number -> name.

The lists are open: a number that is not here is legal and has no name. Sources: sflow_version_5.txt
unless another document is named beside the list.
"""

from __future__ import annotations

from typing import Final


def _numbered(names: str, first: int = 0) -> dict[int, str]:
    return dict(enumerate(names.split(), first))


_DROP_REASONS: Final = {
    **_numbered(  # RFC 792 and RFC 1812: codes of ICMP destination unreachable
        "net_unreachable host_unreachable protocol_unreachable port_unreachable frag_needed src_route_failed "
        "dst_net_unknown dst_host_unknown src_host_isolated dst_net_prohibited dst_host_prohibited "
        "dst_net_tos_unreachable dst_host_tos_unreachable comm_admin_prohibited host_precedence_violation "
        "precedence_cutoff"
    ),
    **_numbered(  # sflow_drops.txt, then host-sflow's list of devlink traps and Linux drop reasons
        "unknown ttl_exceeded acl no_buffer_space red traffic_shaping pkt_too_big src_mac_is_multicast "
        "vlan_tag_mismatch ingress_vlan_filter ingress_spanning_tree_filter port_list_is_empty "
        "port_loopback_filter blackhole_route non_ip uc_dip_over_mc_dmac dip_is_loopback_address sip_is_mc "
        "sip_is_loopback_address ip_header_corrupted ipv4_sip_is_limited_bc ipv6_mc_dip_reserved_scope "
        "ipv6_mc_dip_interface_local_scope unresolved_neigh mc_reverse_path_forwarding non_routable_packet "
        "decap_error overlay_smac_is_mc unknown_l2 unknown_l3 unknown_l3_exception unknown_buffer "
        "unknown_tunnel unknown_l4 sip_is_unspecified mlag_port_isolation blackhole_arp_neigh "
        "src_mac_is_dmac dmac_is_reserved sip_is_class_e mc_dmac_mismatch sip_is_dip dip_is_local_network "
        "dip_is_link_local overlay_smac_is_dmac egress_vlan_filter uc_reverse_path_forwarding split_horizon "
        "locked_port dmac_filter blackhole_nexthop vxlan_parsing llc_snap_parsing vlan_parsing "
        "pppoe_ppp_parsing mpls_parsing arp_parsing ip_1_parsing ip_n_parsing gre_parsing udp_parsing "
        "tcp_parsing ipsec_parsing sctp_parsing dccp_parsing gtp_parsing esp_parsing unknown_parsing "
        "pkt_too_small unhandled_proto ipv6disabled invalid_proto ip_noproto skb_csum skb_ucopy_fault "
        "dev_ready dev_hdr dup_frag skb_gso_seg reverse_path_forwarding icmp_parsing tcp_md5notfound "
        "tcp_md5unexpected tcp_md5failure tcp_flags tcp_zerowindow tcp_old_data tcp_overwindow tcp_ofomerge "
        "tcp_rfc7323_paws tcp_invalid_sequence tcp_reset tcp_invalid_syn tcp_close tcp_fastopen tcp_old_ack "
        "tcp_too_old_ack tcp_ack_unsent_data tcp_ofo_queue_prune tcp_ofo_drop tcp_minttl ipv6_bad_exthdr "
        "ipv6_ndisc_frag ipv6_ndisc_hop_limit ipv6_ndisc_bad_code ipv6_ndisc_bad_options "
        "ipv6_ndisc_ns_otherhost tap_filter tap_txfilter tc_ingress tc_egress xdp cpu_backlog "
        "bpf_cgroup_egress xfrm_policy socket_filter bgp_flowspec",
        256,
    ),
    # host-sflow's list has slips: these numbers, not 332 and 366, are what hsflowd puts on the wire.
    33: "dev_hdr",
    36: "tc_egress",
}

ENUMERATIONS: Final[dict[str, dict[int, str]]] = {
    "header_protocol": _numbered(
        "ethernet_iso88023 iso88024_tokenbus iso88025_tokenring fddi frame_relay x25 ppp smds aal5 aal5_ip "
        "ipv4 ipv6 mpls pos ieee80211_mac ieee80211_ampdu ieee80211_amsdu_subframe infiniband",
        1,
    ),
    "drop_reason": _DROP_REASONS,
    "url_direction": _numbered("src dst", 1),
    "charset": {0: "unknown", 3: "us_ascii", 4: "iso_8859_1", 106: "utf_8"},  # IANA MIBenum
    "as_path_segment_type": _numbered("as_set as_sequence", 1),
    "if_direction": _numbered("unknown full_duplex half_duplex in out"),
    # sflow_80211.txt
    "ieee80211_version": _numbered("a b g n", 1),
    "cipher_suite": _numbered("use_group wep_40 tkip reserved ccmp wep_104", 0x000FAC00),
    # sflow_drops.txt
    "acl_direction": _numbered("unknown ingress egress"),
    # sflow_host.txt
    "machine_type": _numbered(
        "unknown other x86 x86_64 ia64 sparc alpha powerpc m68k mips arm hppa s390",
    ),
    "os_name": _numbered("unknown other linux windows darwin hpux aix dragonfly freebsd netbsd openbsd osf solaris"),
    "domain_state": _numbered("nostate running blocked paused shutdown shutoff crashed"),
    # sFlow discussion list, transactions of the old host draft
    "transaction_direction": _numbered("client server", 1),
    "transaction_status": _numbered("ok generic outofmemory timeout notpermitted"),
    # sflow_application.txt
    "application_status": _numbered(
        "success other timeout internal_error bad_request forbidden too_large not_implemented not_found "
        "unavailable unauthorized"
    ),
    # sflow_http.txt
    "http_method": _numbered("other options get head post put delete trace connect"),
    # sflow_memcache.txt
    "memcache_protocol": _numbered("other ascii binary"),
    "memcache_command": _numbered(
        "other set add replace append prepend cas get gets incr decr delete stats flush version quit touch"
    ),
    "memcache_status": _numbered(
        "unknown ok error client_error server_error stored not_stored exists not_found deleted"
    ),
    # extended_tcp_info (host-sflow)
    "packet_direction": _numbered("unknown received sent"),
}
"""Name of the enumeration (a field kind of the structure table) -> number -> name."""
