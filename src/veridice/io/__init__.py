"""Files in and out, whole or not at all: NIfTI, DICOM, BIDS, other tools' masks, weight cards. No torch.

May be imported by every room above: all but imaging, networks and metrics.
"""

import lazy_loader as lazy

HANDED_ON = {
    "atomic": "append_line held how_to_mend is_new make_folder no_room replaced staged_output write_json write_text written",
    "bids": (
        "ASSESSMENT_SUFFIX MAPS RATING_SUFFIX REPORT_SUFFIX THUMBNAIL_SUFFIX case_name file_stem in_time neutral_cell "
        "read_assessment read_table refuse_another_case refuse_overwriting write_dataset_files write_maps write_table"
    ),
    "bids_dataset": "BidsScan check_dataset describe_scans find_scans read_filter validate_dataset without_scans",
    "database": "Database",
    "dicom_choice": "Choice MR_CLASSES SEGMENTATIONS choose is_ours",
    "dicom_deidentify": "deidentify images_to_share",
    "dicom_frames": "PATIENT STUDY SourceImages read_sources",
    "dicom_headers": "LARGEST_SERIES Image Series files_below read_header read_study silence_libraries words",
    "dicom_objects": "Making",
    "dicom_seg": "GivenSegmentation parametric_map read_parametric_map read_segmentation segmentation",
    "dicom_sr": "picture rejection_note structured_report",
    "datasets": "LAYOUTS read_dataset read_manifest",
    "image_header": "require_content",
    "labelled_scan": "LabelledScan read_labelled required_file true_parts views",
    "mask_values": "MaskLabel",
    "memory": "available_memory memory_ran_out",
    "nifti": "read_image read_mask write_image",
    "other_tools": "FoundMask MaskFolder find_masks",
    "scan_reader": "read_given_mask read_given_parts read_scan",
    "weight_cards": (
        "ANATOMY CRITIC NAMES NetworkKind OPTIONAL WeightCard WeightKind bundled_weights checksums names_in read_card "
        "save_arrays verified_bytes verify"
    ),
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
