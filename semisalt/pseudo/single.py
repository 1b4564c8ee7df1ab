"""A single round: labels by the round before, a training, its scores."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass

from accelerate import Accelerator

from semisalt.config import Config
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.build import channels_of
from semisalt.inference.evaluate import evaluate
from semisalt.methods.build import build_method
from semisalt.processes import by_main
from semisalt.provenance import collect_provenance
from semisalt.pseudo.labelling import Announce, Task, label_directory, label_fold
from semisalt.pseudo.labels import load_labels, refuse_leak, refuse_other_labels, refuse_other_models
from semisalt.pseudo.recipe import lesson_shares
from semisalt.pseudo.request import Request
from semisalt.run import RunDirectory
from semisalt.training.crossval import Division, train_folds
from semisalt.training.lesson import Lesson
from semisalt.training.source import start_weights

INFLATED = "the labels come from all folds' models, which have learned from the tiles that are scored (--pooled)"


@dataclass(frozen=True)
class Round:
    """A round to be run; whatever of it is finished is kept.

    Attributes:
        number: from 1.
        before: the run whose models label.
        request, survey, recipe: what all rounds share.
        division: of the labelled tiles.
        bare: the unlabelled tiles.
        accelerator: of this process.
        announce: told what happens, a line at a time.
    """

    number: int
    before: RunDirectory
    request: Request
    survey: Survey
    recipe: Config
    division: Division
    bare: TileSet
    accelerator: Accelerator
    announce: Announce

    @property
    def run(self) -> RunDirectory:
        """Where it goes."""
        return self.request.run(self.number)

    def finish(self) -> RunDirectory:
        """Label, train, evaluate. Raises UserError as label_fold and Trainer.fit do, and for labels of other models."""
        self.announce(f"round {self.number}: labels by {self.before.path}")
        with ExitStack() as held:
            by_main(self.accelerator, lambda: held.enter_context(self.run.lock()))
            by_main(self.accelerator, self._label)
            train_folds(self.run, self.survey, self.request.folds, build_method, self.accelerator, self._lesson)
            if self.accelerator.is_main_process:
                evaluate(self.run, self.survey.labelled)
        self.accelerator.wait_for_everyone()
        return self.run

    def _label(self) -> None:
        self._begin()
        recipe, folds = self.recipe, self.request.folds
        half = (self.number - 1) % 2 if recipe.pseudo.use == "half_swap" else None
        maps = self.before.maps_of(recipe.data.unlabelled_limit, recipe.seed)
        # The source is held while it is predicted, no longer: others may learn from it at the same time.
        with self.before.lock(wait=self.announce):
            for fold in folds:
                self._refuse_labels_that_went(fold)
                voters = folds if self.request.pooled else (fold,)
                task = Task(self.before, fold, voters, self.bare, self.division, maps, half)
                label_fold(task, recipe.pseudo, label_directory(self.run, fold), self.accelerator.device, self.announce)

    def _begin(self) -> None:
        """Create the round's directory, or see that it is what is asked for."""
        path, recipe, survey = self.run.path, self.recipe, self.survey
        if (path / "config.yaml").exists():
            problems = self.run.unlike(recipe)
            if self.run.provenance["data"] != survey.fingerprint:
                problems.append("data: another fingerprint")
            if problems:
                raise UserError(f"{path} cannot be resumed, it was made differently:\n  " + "\n  ".join(problems))
            return
        provenance = collect_provenance(survey.fingerprint, survey.source, recipe.seed, self.accelerator.device)
        provenance["channels"] = asdict(channels_of(recipe, survey))
        provenance["round"] = self.number
        provenance["labels_by"] = str(self.before.path.resolve())
        provenance["inflated"] = INFLATED if self.request.pooled else self.before.inflated
        RunDirectory.create(path, recipe, provenance)

    def _refuse_labels_that_went(self, fold: int) -> None:
        """A fold that has begun to learn from labels must not go on with others."""
        labels, folder = label_directory(self.run, fold), self.run.fold(fold)
        if folder.checkpoint.exists() and not folder.result.exists() and not labels.complete():
            raise UserError(
                f"{labels.path} is gone, and fold {fold} had begun to learn from it: remove {folder.path}, too, to "
                "label and train the fold anew"
            )

    def _lesson(self, fold: int, division: Division) -> Lesson:
        """What a fold learns from its labels, if they are those that it may learn from."""
        folder = label_directory(self.run, fold)
        provenance = folder.provenance()
        refuse_other_labels(folder, provenance, fold, pooled=self.request.pooled)
        if not self.request.pooled:
            refuse_leak(folder, provenance, division.validation(fold).ids)
        tiles = load_labels(folder, division.candidates(fold, self.bare))
        start = start_weights(self.before, fold) if self.recipe.pseudo.start == "previous" else None
        if start and not self.run.fold(fold).begun:  # a fold that was has weights of its own
            refuse_other_models(folder, provenance, self.before.path, start)
        return Lesson(tiles, lesson_shares(self.recipe), start)
