"""Every word that a report prints, in English and Chinese; the Chinese terms are the field's own.

A message may hold ``{names}``, the same ones in both languages (a test compares them).
"""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")

MESSAGES: Final[dict[str, tuple[str, str]]] = {
    # head
    "title": ("Monthly bandwidth report", "带宽使用月报"),
    "summary": ("Summary", "汇总"),
    "month": ("{year}-{month}", "{year}年{month}月"),
    "period": ("Period", "统计周期"),
    "period_text": ("{begin} to {end} ({zone})", "{begin} 至 {end}（{zone}）"),
    "made_at": ("Made at", "生成时间"),
    "made_by": ("Made by", "生成软件"),
    "revision": ("Revision", "版次"),
    "revision_frozen": ("{revision}, frozen", "第{revision}版（已固化）"),
    "revision_preliminary": ("PRELIMINARY: the month is not over, nothing is frozen", "初步数据：本月尚未结束，未固化"),
    "record_sha256": ("SHA-256 of the record", "记录的SHA-256"),
    "registry_sha256": ("SHA-256 of the registry", "名录的SHA-256"),
    # scopes and directions
    "city": ("All departments", "全部单位"),
    "exit": ("Internet exit", "统一互联网出口"),
    "department": ("Department", "单位"),
    "departments": ("Departments", "委办局"),
    "unknown_department": ("Not assigned to a department", "未归属单位"),
    "not_registered": ("not in the registry", "未登记"),
    "class": ("Class", "类别"),
    "strengthened": ("strengthened", "加强"),
    "transitional": ("transitional", "过渡"),
    "centralised": ("centralised", "集中"),
    "direction": ("Direction", "方向"),
    "in": ("in", "入"),
    "out": ("out", "出"),
    "inbound": ("Inbound", "入方向"),
    "outbound": ("Outbound", "出方向"),
    # figures
    "usage": ("Usage", "流量使用情况"),
    "contract": ("Contracted", "签约带宽"),
    "capacity": ("Capacity", "可用带宽"),
    "mean": ("Mean rate", "流速均值"),
    "peak": ("Peak (5 min)", "实测峰值（5分钟）"),
    "peak_at": ("Peak at", "峰值时间"),
    "busy_hour": ("Busy hour", "忙时流速"),
    "busy_hour_at": ("Busy hour at", "忙时"),
    "hour_of_day": ("Busiest hour of day", "每日最忙时段"),
    "hour_of_day_text": ("{hour}:00-{next}:00", "{hour}:00-{next}:00"),
    "p95": ("95th percentile", "95峰值"),
    "p95_billed": ("95th percentile, higher direction", "95峰值（取较高方向）"),
    "volume": ("Volume", "流量"),
    "volume_in": ("Volume in", "入流量"),
    "volume_out": ("Volume out", "出流量"),
    "internal": ("Inside the city", "市内流量"),
    "over_80": ("Time over 80 %", "超过80%的时间"),
    "over_100": ("Time over 100 %", "超过100%的时间"),
    "share": ("Share", "占比"),
    "share_of_exit": ("Share of the exit", "占出口比例"),
    "error": ("Error of the volume", "流量误差"),
    "unclassified": ("Unclassified traffic", "未识别流量"),
    "samples": ("Samples", "采样包数"),
    "low": ("{column}, low", "{column}下限"),
    "high": ("{column}, high", "{column}上限"),
    "interval": ("{low} to {high}", "{low} 至 {high}"),
    "exact": ("exact", "精确值"),
    "none_seen": ("none seen", "未见流量"),
    "not_known": ("not known", "不详"),
    "no_contract": ("none", "未签约"),
    "cannot_tell": ("cannot tell", "无法判断"),
    # chart
    "chart": ("Highest 5-min rate of every two hours", "每两小时内5分钟速率的最大值"),
    "chart_in": ("in", "入"),
    "chart_out": ("out", "出"),
    "chart_p95": ("95th percentile", "95峰值"),
    "chart_contract": ("contracted", "签约带宽"),
    "chart_capacity": ("capacity", "可用带宽"),
    # applications
    "applications": ("Top {count} applications", "应用流量排名（前{count}位）"),
    "application": ("Application", "应用"),
    "rank": ("No.", "序号"),
    "other_applications": ("{count} other applications", "其他{count}个应用"),
    # comparison
    "comparison": ("Comparison", "同比与环比"),
    "compared": ("Compared with", "对比月份"),
    "previous_month": ("month on month", "环比"),
    "previous_year": ("year on year", "同比"),
    "against": ("{month} ({kind})", "{month}（{kind}）"),
    "mean_in": ("Mean in", "入均值"),
    "mean_out": ("Mean out", "出均值"),
    "p95_in": ("p95 in", "入95峰值"),
    "p95_out": ("p95 out", "出95峰值"),
    "p95_change": ("p95, month on month", "95峰值环比"),
    "why": ("Remark", "说明"),
    "source_store": ("from the store", "取自数据库"),
    "source_record": ("from the frozen record {revision}", "取自固化记录{revision}"),
    "reason_not_over": ("cannot tell: the month is not over", "无法判断：本月尚未结束"),
    "reason_no_data": ("cannot tell: no data of {month}", "无法判断：无{month}的数据"),
    "reason_coverage_then": (
        "cannot tell: only {coverage} of {month} was collected",
        "无法判断：{month}仅采集到{coverage}的数据",
    ),
    "reason_coverage_now": (
        "cannot tell: only {coverage} of this month was collected",
        "无法判断：本月仅采集到{coverage}的数据",
    ),
    "reason_not_listed": ("cannot tell: nothing known in {month}", "无法判断：{month}无该单位数据"),
    # shortfalls
    "shortfalls": ("Usage at the contracted rate", "流量达到签约带宽的时段"),
    "shortfalls_note": (
        "In these times usage stood at 95 % of the contracted rate or more: demand may have been higher. Whether "
        "traffic was turned away cannot be told from usage alone; that takes the counters of queues (proof).",
        "以下时段流量达到签约带宽的95%以上，实际需求可能更高。仅凭流量无法判断是否有业务受限，需以队列计数器核实。",
    ),
    "shortfalls_none": (
        "Usage never stood at 95 % of the contracted rate.",
        "本月流量从未达到签约带宽的95%。",
    ),
    "shortfalls_total": ("{direction}: {count} times, {duration} in all", "{direction}：共{count}次，合计{duration}"),
    "begin": ("Begin", "开始时间"),
    "duration": ("Duration", "持续时间"),
    "minutes": ("{minutes} min", "{minutes}分钟"),
    "hours": ("{hours} h {minutes} min", "{hours}小时{minutes}分钟"),
    # links
    "links": ("Links", "链路"),
    "links_busy": ("Links over 70 %, and when they will be full", "利用率超过70%的链路及趋势预测"),
    "links_busy_none": ("No observed link is over 70 %.", "无利用率超过70%的链路。"),
    "links_exits": ("Exits and uplinks", "出口与上联链路"),
    "links_count": (
        "{observed} links observed, {unseen} without a sample this month, {blind} blind.",
        "有遥测的链路{observed}条，本月无采样的{unseen}条，盲点{blind}条。",
    ),
    "link": ("Link", "链路"),
    "kind": ("Kind", "类型"),
    "port": ("Port", "接口"),
    "utilisation": ("p95 utilisation", "95峰值利用率"),
    "growth": ("Growth a year", "年增长率"),
    "exhaustion": ("Exhausted on", "预计用尽日期"),
    "exhaustion_interval": ("95 %: {low} to {high}", "95%置信区间：{low} 至 {high}"),
    "exhaustion_later": ("not within 3 years", "3年内不会用尽"),
    "exhaustion_open": ("maybe not within 3 years", "3年内或不会用尽"),
    "forecast_history": (
        "cannot tell: {days} days of data, {needed} needed",
        "无法判断：已有{days}天数据，需{needed}天",
    ),
    "forecast_capacity": ("cannot tell: no capacity known", "无法判断：可用带宽不详"),
    "groups": ("Link groups", "链路组"),
    "group": ("Group", "链路组"),
    "members": ("Members", "成员"),
    "groups_note": (
        "The rates of the members are added up in every interval; the percentile is that of the sum.",
        "各成员逐时段求和后再取95峰值。",
    ),
    "group_unseen": ("cannot tell: nothing seen of {links}", "无法判断：{links}无数据"),
    "links_blind": ("Links and ports without telemetry", "无遥测的链路与接口（盲点）"),
    "links_blind_note": (
        "Nothing is known of these: they are blind, not idle, and no figure holds their traffic.",
        "以下链路与接口无遥测数据：并非无流量，任何统计值均不含其流量。",
    ),
    "links_unseen": ("Links without a sample this month", "本月无采样的链路"),
    "links_unseen_note": (
        "No sample came of these links: idle or blind, nobody can tell.",
        "以下链路本月无任何采样：无流量或为盲点，无法判断。",
    ),
    "links_unseen_kind": ("{kind} ({count}): {names}", "{kind}（{count}条）：{names}"),
    "state": ("State", "状态"),
    "state_blind": ("blind", "盲点"),
    "state_unseen": ("no sample this month", "本月无采样"),
    "reason": ("Reason", "原因"),
    "kind_exit": ("exit", "出口"),
    "kind_uplink": ("uplink", "上联"),
    "kind_backbone": ("backbone", "骨干"),
    "kind_aggregation": ("aggregation", "汇聚"),
    "kind_access": ("access", "接入"),
    "kind_datacentre": ("data centre", "数据中心"),
    # quality
    "quality": ("Data quality", "数据质量"),
    "coverage": ("Coverage", "采集覆盖率"),
    "coverage_text": ("{share} ({seen} of {due} intervals of 5 min)", "{share}（{due}个5分钟时段中采集到{seen}个）"),
    "gaps": ("Data gaps", "数据缺口"),
    "gaps_none": ("No interval of 5 min is missing.", "无缺失的5分钟时段。"),
    "gaps_note": (
        "{count} gaps; the longest are listed. Figures are of the time that was collected: a gap counts as unknown, "
        "never as zero.",
        "共{count}处缺口，列出最长者。统计值仅含已采集时间；缺口视为未知，不按零计。",
    ),
    "stated_rate": ("Scaled by the stated rate", "按声明采样率估算的采样"),
    "loss": ("Loss by cause", "各类丢失"),
    "loss_share": ("Datagrams lost", "数据报丢失率"),
    "loss_note": (
        "Counts of the collector. What was lost of an agent's datagrams is allowed for in the estimates.",
        "采集器计数。代理数据报的丢失已在估算中补偿。",
    ),
    "loss_unrecorded": (
        "Not recorded: the store holds no quality figures of this month.",
        "未记录：数据库中无本月的质量数据。",
    ),
    "cause": ("Cause", "原因"),
    "count": ("Count", "数量"),
    "loss.sequence_gap": ("datagrams missing in the sequence", "序号缺失的数据报"),
    "loss.shed": ("datagrams shed under overload", "过载时舍弃的数据报"),
    "loss.capped": ("datagrams above an agent's cap", "超出代理上限的数据报"),
    "loss.samples_dropped": ("samples dropped by agents", "代理丢弃的采样"),
    "loss.kernel": ("datagrams dropped by the kernel", "内核丢弃的数据报"),
    "loss.refused": ("datagrams of senders not allowed", "未授权来源的数据报"),
    "loss.undecodable": ("undecodable: {reason}", "无法解码：{reason}"),
    "loss.late": ("samples that came too late", "迟到的采样"),
    "loss.duplicate": ("samples that came twice", "重复的采样"),
    "loss.unplaced": ("samples on no link", "未归属链路的采样"),
    "loss.windows": ("windows of 1 s never stored", "未能存储的1秒窗口"),
    "points": ("Metering points", "计量点"),
    "point": ("Metering point", "计量点"),
    "bins_with_traffic": ("Intervals with traffic", "有流量的时段"),
    # the last page
    "statements": ("Statements and signatures", "说明与签署"),
    "how": ("How the figures are made", "统计口径"),
    "how_estimate": (
        "All figures are estimates from packet samples (sFlow), at layer 2 with FCS; intervals are at 95 %.",
        "各项数值均为采样（sFlow）估算值，按含FCS的二层字节计；置信区间为95%。",
    ),
    "how_direction": (
        "Contracts, percentiles and rates are of traffic across the border of the city (Internet, province, nation): "
        "in = towards the department, out = from it.",
        "签约带宽、95峰值与速率均指跨市边界（互联网、省级、国家级）的流量：入为流向单位，出为自单位流出。",
    ),
    "how_p95": (
        "The 95th percentile is the nearest rank of the 5-min rates. Of several members (departments, metering points) "
        "the rates are added up in every interval first: percentiles are never added.",
        "95峰值为5分钟速率按最近秩法取值。多个成员（单位、计量点）先逐时段求和再取95峰值，绝不对95峰值求和。",
    ),
    "how_gap": (
        "Time that was not collected counts as unknown, never as zero.",
        "未采集的时间视为未知，不按零计。",
    ),
    "how_forecast": (
        "The forecast extends the daily busy hours (growth with weekdays); it knows nothing of what is planned.",
        "趋势预测由每日忙时外推（增长率与星期规律），不含规划中的变化。",
    ),
    "retention": ("Retention of logs", "日志留存"),
    "retention_text": (
        "Traffic data of 5 min and longer is held from {begin} on ({days} days when this report was made). Six months, "
        "{required} days, are required (Cybersecurity Law, Art. 23(3); before 2026 Art. 21(3)).",
        "5分钟及以上粒度的流量数据自{begin}起留存（本报告生成时为{days}天）。法规要求不少于六个月，即{required}天"
        "（《网络安全法》第二十三条第三项，2026年前为第二十一条第三项）。",
    ),
    "retention_young": (
        "Nothing was removed so far: collecting began then.",
        "此前未删除任何数据：采集自该时开始。",
    ),
    "retention_removed": ("Older data was removed by retention.", "更早的数据已按留存策略删除。"),
    "retention_short": (
        "THIS IS LESS THAN REQUIRED: data of the last {required} days was removed.",
        "低于法规要求：最近{required}天内的数据已被删除。",
    ),
    "prepared": ("Prepared by", "制表"),
    "reviewed": ("Reviewed by", "审核"),
    "approved": ("Approved by", "批准"),
    "date": ("Date", "日期"),
    "stamp": ("Stamp", "盖章"),
    "page": ("Page {page}", "第{page}页"),
}


class Words:
    """The messages of one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._side = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """Return a message with its names filled in; raises KeyError for one that doesn't exist."""
        text = MESSAGES[key][self._side]
        return text.format(**values) if values else text

    def title(self, name: str, title: dict[str, str | None] | None) -> str:
        """Return an entity's name for people: in this language, else the other one, else its own name."""
        if title is None:
            return name
        other = LANGUAGES[1 - self._side]
        return title.get(self.language) or title.get(other) or name
