"""What a mask is worth, from numbers: features, predictor, interval, verdict; whether a scan is known. No torch.

May be imported by assessment and the rooms above it.
"""

import lazy_loader as lazy

HANDED_ON = {
    "bad_bound": "CONFIDENCE most_bad",
    "calibration": "CalibrationSet dice_intervals expected_shortfall farther_than fewest_cases read_calibration "
    "read_fitting write_calibration",
    "common_scores": "SiteScores joined_scores share_scores",
    "critic_evidence": "critic_evidence error_maps",
    "decision": "AGREEMENT_WEIGHT CAP GROSS HARDER MAX_GROSS MAX_MISSED MIN_DICE TAIL Flags Limits PValues StudyDecision "
    "Verdict decide_empty decide_study fewest_people intervals_for_review p_values people_with_bad_masks",
    "image_checks": "image_doubts image_warnings",
    "image_features": "DESCRIPTORS describe_scan",
    "lesion_changes": "match_lesions",
    "lesion_places": "by_place places_of",
    "mask_features": "mask_evidence",
    "model": "CALIBRATION QualityModel load_quality_model save_quality_model verified_calibration",
    "ood": "KNOWN OodDetector fit_ood_detector",
    "placement_checks": "SURELY_TURNED cut_off_doubts orientation_doubts",
    "predictor": "FEATURES Predictor evidence_in fit_predictor",
    "quality_classes": "CLASSES LIMITS class_chances class_of",
    "recalibrate": "recalibrate_rows",
    "scan_analysis": "ScanAnalysis native_samples",
    "second_expert": "second_expert_dice",
    "single_lesions": "Lesion LesionModel MOST_LESIONS describe_lesions fit_lesion_model label_lesions missed_mask",
    "site_reports": "SiteReport site_reports",
    "slice_checks": "slice_doubts",
    "tool_order": "KIND_ERROR Pair ToolMean compare_pairs tool_means",
    "volume_change": "VisitVolume",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
