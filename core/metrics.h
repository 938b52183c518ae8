/* core/metrics.h: what a model is worth on a data set. Definitions are scikit-learn's (golden numbers in the tests), zero_division = 0.
 *
 * The outputs of the whole split are kept (k * n floats): AUC needs them. Every figure is computed from the model's output
 * probabilities: a softmax or sigmoid is applied to logits. Macro means are over the classes that occur or were predicted, AUC's over
 * the classes that have samples on both sides. */
#ifndef CORE_METRICS_H
#define CORE_METRICS_H

#include "core/loss.h"

/* id, JSON name, larger is better, for regression (else classification), help */
#define METRIC_LIST(X) \
    X(LOSS, "loss", 0, 1, "Mean loss over the samples.") \
    X(ACCURACY, "accuracy", 1, 0, "Share of samples whose class is predicted.") \
    X(TOP5, "top5_accuracy", 1, 0, "Share of samples whose class is among the five most probable; ties go to the lower class.") \
    X(PRECISION, "precision", 1, 0, "Macro mean over classes (binary: of class 1).") \
    X(RECALL, "recall", 1, 0, "Macro mean over classes (binary: of class 1).") \
    X(F1, "f1", 1, 0, "Binary: F1 of class 1; else the macro mean.") \
    X(F1_MACRO, "f1_macro", 1, 0, "Unweighted mean of the classes' F1.") \
    X(F1_WEIGHTED, "f1_weighted", 1, 0, "Mean of the classes' F1, weighted by their samples.") \
    X(AUC, "auc", 1, 0, "Area under the ROC curve; more than two classes: macro mean of one-vs-rest.") \
    X(MSE, "mse", 0, 1, "Mean squared error over samples and outputs.") \
    X(MAE, "mae", 0, 1, "Mean absolute error over samples and outputs.")
#define X(id, name, up, reg, help) METRIC_##id,
enum metric { METRIC_LIST(X) METRIC_COUNT };
#undef X
/* "auto|loss|accuracy|...", for a FIELD_CHOICE: 0 is metric_default, else the metric + 1. */
#define METRIC_OR(id, name, up, reg, help) "|" name
#define METRIC_CHOICES "auto" METRIC_LIST(METRIC_OR)
const char *metric_name(enum metric m);
const char *metric_help(enum metric m);
bool metric_larger_is_better(enum metric m);
/* Accuracy for classification, mse for regression. */
enum metric metric_default(int n_classes);
/* Whether it is defined for this task; n_classes 0: regression. */
bool metric_fits(enum metric m, int n_classes);

enum { METRICS_MAX_CLASSES_CONFUSION = 100 };
struct metrics {
    double value[METRIC_COUNT]; /* NAN: not defined here (AUC of one class, accuracy of a regression) */
    int n_classes;
    int64_t n;
    int64_t *confusion; /* [true][predicted], n_classes squared; NULL above METRICS_MAX_CLASSES_CONFUSION classes or without classes */
};
void metrics_clear(struct metrics *m); /* frees confusion, zeroes */
/* New reference: {"loss": .., "accuracy": .., ...}, those that fit the task; what is not defined is null. confusion: with
 * "confusion_matrix", [true][predicted] as nested arrays. NULL when memory is short. */
json_t *metrics_json(const struct metrics *m, bool confusion);
/* Back from metrics_json, for checkpoints: the numbers to the last bit. Without confusion matrix. */
MUST enum err_code metrics_from_json(struct metrics *m, const json_t *j, struct err *e);

/* From raw arrays: probability[k][n] (k 1: of class 1, predicted above 0.5), label[n]. loss is left NAN. */
MUST enum err_code metrics_classify(struct metrics *m, int n_classes, int n, const float *probability, int k, const int32_t *label,
                                    struct err *e);
MUST enum err_code metrics_regress(struct metrics *m, int n, int k, const float *prediction, const float *target, struct err *e);

struct data_view;
/* core/evaluate.c. Runs net (whose exec is x) over a view and fills *m (metrics_clear it later); an empty view leaves all NAN. stop(user),
 * if not NULL, is asked for each batch: ERR_STOPPED. ERR_DIVERGED when the loss is not finite. The same numbers for any team and max_n. */
MUST enum err_code metrics_evaluate(struct metrics *m, struct exec *x, const struct net *net, const struct loss_binding *b,
                                    const struct data_view *v, struct team *team, bool (*stop)(void *user), void *user, struct err *e);

#endif
