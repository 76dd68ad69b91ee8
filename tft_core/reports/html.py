"""All pages in one place: each function takes plain values and returns one HTML text."""

from tft_core.reports.ablation_page import ablation_page
from tft_core.reports.page import render_page
from tft_core.reports.quality_page import BarsView, data_quality_page
from tft_core.reports.selection_pages import prefilter_page, stability_page
from tft_core.reports.study_page import study_page
from tft_core.reports.tear_sheet import tear_sheet
from tft_core.reports.tear_sheet_data import TearSheetData

__all__ = [
    "BarsView",
    "TearSheetData",
    "ablation_page",
    "data_quality_page",
    "prefilter_page",
    "render_page",
    "stability_page",
    "study_page",
    "tear_sheet",
]
