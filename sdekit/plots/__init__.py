"""Pictures, as matplotlib figures that nothing else sees: ``save(loss_curves({"DDPM": losses}), path)``."""

from .charts import (
    Convergence,
    Mark,
    SolverRow,
    Tradeoff,
    certificate,
    histogram,
    loss_curves,
    mark_chart,
    schedules,
    solver_table,
    tradeoffs,
    verdicts,
)
from .images import image_grid, image_rows, save_film, save_grid
from .planes import (
    FieldPanel,
    Lattice,
    PathPanel,
    PointPanel,
    density_maps,
    lattice,
    path_panels,
    point_panels,
    score_fields,
)
from .style import save, styled

__all__ = [
    "Convergence",
    "FieldPanel",
    "Lattice",
    "Mark",
    "PathPanel",
    "PointPanel",
    "SolverRow",
    "Tradeoff",
    "certificate",
    "density_maps",
    "histogram",
    "image_grid",
    "image_rows",
    "lattice",
    "loss_curves",
    "mark_chart",
    "path_panels",
    "point_panels",
    "save",
    "save_film",
    "save_grid",
    "schedules",
    "score_fields",
    "solver_table",
    "styled",
    "tradeoffs",
    "verdicts",
]
