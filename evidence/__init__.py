"""The experiments behind what the documentation says about the optimizers: `make evidence`.

Each module of `evidence.experiments` is one experiment: what is run, which claims it bears on, and
what is shown of it. Its measurements are kept in `evidence/results`; the page and its pictures are
made from those files alone, and so is the verdict on every claim.
"""
