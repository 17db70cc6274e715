"""The hospital's door: one DICOM study in and objects for the archive out, and the node that does so for every study.

May be imported by cli. Needs the extra ``dicom``.
"""

import lazy_loader as lazy

HANDED_ON = {
    "inbox": "Inbox Limits tell_in_the_log",
    "node": "Partners",
    "queue": "Queue",
    "send": "TITLE archive_of",
    "study": "JudgedStudy StudyOptions judge_study",
    "supervisor": "GatewayOptions retry serve statuses",
    "tls": "TlsFiles tls_files",
    "worker": "WorkerSettings",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
