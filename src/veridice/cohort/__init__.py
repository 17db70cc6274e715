"""Many scans anywhere: planned, run by processes or clusters, recorded, ranked in one table.

May be imported by review and cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "executor": "Run Tally run_cohort",
    "group": "PAGE write_group",
    "ratings": "REASONS read_rating",
    "records": "COMPARISON RECORDS Record read_record",
    "schedule": "choose_processes name_tools plan_comparison plan_tasks refuse_same say_absent",
    "task": "Outcome ScanTask judge_scan",
    "tool_table": "write_comparison",
    "visits": "measured_pair order_of visits_of write_visits",
    "worklist": "rating_doubts",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
