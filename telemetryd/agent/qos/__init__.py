"""OpenConfig QoS in the Linux kernel: leaves become HTB classes, nftables maps and ifb devices."""
