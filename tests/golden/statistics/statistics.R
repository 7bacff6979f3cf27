# Reference values of every statistic in src/codejoule/statistics, from R.
# Run in this folder: Rscript statistics.R   (writes statistics.json)
# Debian: r-base-core r-cran-car r-cran-lmtest r-cran-sandwich r-cran-lme4 r-cran-lmertest
#         r-cran-effectsize r-cran-rstatix r-cran-e1071 r-cran-tseries r-cran-fbasics r-cran-jsonlite
suppressPackageStartupMessages({
  library(car); library(lmtest); library(sandwich); library(lme4); library(jsonlite)
})
tasks <- read.csv("tasks.csv")
runs <- read.csv("runs.csv", stringsAsFactors = FALSE)
n <- nrow(tasks)
e <- tasks[, c("energy_none", "energy_gptq8", "energy_gptq4")]
names(e) <- c("none", "gptq8", "gptq4")
long <- data.frame(value = unlist(e, use.names = FALSE),
                   group = factor(rep(names(e), each = n), levels = names(e)))
out <- list()

# Assumptions -----------------------------------------------------------------------------------
mean_model <- lm(none ~ 1, data = e)
out$durbin_watson <- list(lmtest = unname(dwtest(mean_model)$statistic),
                          car = durbinWatsonTest(mean_model, simulate = FALSE)$dw)
sw <- shapiro.test(e$none)
out$shapiro_wilk <- list(w = unname(sw$statistic), p_value = sw$p.value)
lev <- leveneTest(value ~ group, data = long, center = median)
out$levene_groups <- list(f = lev$`F value`[1], p_value = lev$`Pr(>F)`[1])
half <- factor(rep(c("first", "second"), c(n %/% 2, n - n %/% 2)))
lev <- leveneTest(e$none ~ half, center = median)
out$levene_time <- list(f = lev$`F value`[1], p_value = lev$`Pr(>F)`[1])

# Regressions -----------------------------------------------------------------------------------
statistics <- function(fit, V, slopes) {
  r <- residuals(fit); X <- model.matrix(fit); k <- ncol(X); ll <- as.numeric(logLik(fit))
  wald <- linearHypothesis(fit, slopes, vcov. = V, test = "F")
  dago <- fBasics::dagoTest(r)@test
  jb <- tseries::jarque.bera.test(r)
  list(n = nrow(X), r_squared = summary(fit)$r.squared,
       adjusted_r_squared = summary(fit)$adj.r.squared,
       f = wald$F[2], f_p_value = wald$`Pr(>F)`[2], log_likelihood = ll,
       # R counts the error's variance among the parameters, statsmodels does not.
       aic = -2 * ll + 2 * k, bic = -2 * ll + log(nrow(X)) * k,
       durbin_watson = sum(diff(r)^2) / sum(r^2),
       omnibus = unname(dago$statistic[1]), omnibus_p_value = unname(dago$p.value[1]),
       jarque_bera = unname(jb$statistic), jarque_bera_p_value = unname(jb$p.value),
       skew = e1071::skewness(r, type = 1), kurtosis = e1071::kurtosis(r, type = 1) + 3,
       condition_number = kappa(X, exact = TRUE))
}
coefficients_of <- function(fit, V, df) {
  test <- coeftest(fit, vcov. = V, df = df)
  q <- if (is.finite(df)) qt(0.975, df) else qnorm(0.975)
  lapply(seq_len(nrow(test)), function(i) list(
    term = rownames(test)[i], coefficient = test[i, 1], standard_error = test[i, 2],
    statistic = test[i, 3], p_value = test[i, 4],
    ci_low = test[i, 1] - q * test[i, 2], ci_high = test[i, 1] + q * test[i, 2]))
}
y <- log1p(e$none / 3600)
d <- data.frame(y = y[-1], output_tokens = tasks$tokens[-1], log_energy_lag1 = y[-n],
                Computation = tasks$Computation[-1], Network = tasks$Network[-1],
                Time = tasks$Time[-1])
fit <- lm(y ~ 0 + output_tokens + log_energy_lag1 + Computation + Network + Time, data = d)
V <- vcovHC(fit, type = "HC3")
out$thesis_regression <- list(terms = coefficients_of(fit, V, Inf),
                              statistics = statistics(fit, V, names(coef(fit))))
d <- data.frame(y = log(e$none), output_tokens = tasks$tokens, tasks[, c("Computation", "Network", "Time")])
fit <- lm(y ~ output_tokens + Computation + Network + Time, data = d)
V <- NeweyWest(fit, lag = floor(4 * (n / 100)^(2 / 9)), prewhite = FALSE, adjust = TRUE)
out$hac_regression <- list(terms = coefficients_of(fit, V, fit$df.residual),
                           statistics = statistics(fit, V, names(coef(fit))[-1]))

# Unpaired --------------------------------------------------------------------------------------
kw <- kruskal.test(value ~ group, data = long)
out$kruskal_wallis <- list(h = unname(kw$statistic), p_value = kw$p.value,
  epsilon_squared = effectsize::rank_epsilon_squared(value ~ group, data = long, ci = NULL)[[1]])
dunn <- rstatix::dunn_test(long, value ~ group, p.adjust.method = "holm")
out$dunn <- lapply(seq_len(nrow(dunn)), function(i) list(
  a = dunn$group1[i], b = dunn$group2[i], p_value_holm = dunn$p.adj[i]))
out$cliffs_delta <- effectsize::rank_biserial(e$gptq4, e$none, ci = NULL)$r_rank_biserial

# Paired ----------------------------------------------------------------------------------------
m <- as.matrix(e)
fr <- friedman.test(m)
out$friedman <- list(chi2 = unname(fr$statistic), p_value = fr$p.value,
  kendalls_w = effectsize::kendalls_w(m, ci = NULL)[[1]])
signed <- function(a, b, exact) {
  test <- suppressWarnings(wilcox.test(a, b, paired = TRUE, exact = exact, correct = FALSE))
  k <- sum(a != b)
  v <- unname(test$statistic)
  list(w = min(v, k * (k + 1) / 2 - v), p_value = test$p.value)
}
out$wilcoxon <- list(asymptotic = signed(e$gptq8, e$none, FALSE),
                     exact = signed(log(e$gptq8[1:20] + 0.001 * 1:20), log(e$none[1:20]), TRUE))
p <- c(0.011, 0.2, 0.0004, 0.03, 0.9, 0.03)
out$holm <- list(p = p, adjusted = p.adjust(p, "holm"))

# Log-ratios ------------------------------------------------------------------------------------
one_run <- function(cluster) {
  fit <- lm(log(e$gptq8) - log(e$none) ~ 1)
  error <- sqrt(vcovCL(fit, cluster = cluster, type = "HC1")[1, 1])
  df <- length(unique(cluster)) - 1
  list(ratio = exp(coef(fit)[[1]]), standard_error = error, df = df,
       p_value = 2 * pt(-abs(coef(fit)[[1]] / error), df))
}
out$log_ratio <- list(by_task = one_run(seq_len(n)), by_batch = one_run(tasks$batch),
                      t_test = t.test(log(e$gptq8), log(e$none), paired = TRUE)$p.value)
wide <- function(name) with(runs[runs$configuration == name, ], tapply(log_energy, list(run, task), mean))
a <- wide("gptq8"); b <- wide("none")
pooled <- t.test(rowMeans(a), rowMeans(b), var.equal = TRUE)
v_runs <- unname(pooled$stderr)^2; df_runs <- unname(pooled$parameter)
v_tasks <- vcov(lm(colMeans(a) - colMeans(b) ~ 1))[1, 1]
noise <- function(name) {
  own <- runs[runs$configuration == name, ]
  summary(lm(log_energy ~ factor(run) + factor(task), data = own))$sigma^2 / nrow(own)
}
v_more <- max(0, v_tasks - noise("gptq8") - noise("none"))
v <- v_runs + v_more
theta <- mean(a) - mean(b)
# Cochran and Cox's critical value.
critical <- function(alpha)
  (v_runs * qt(1 - alpha / 2, df_runs) + v_more * qt(1 - alpha / 2, ncol(a) - 1)) / v
level <- uniroot(function(l) critical(exp(l)) - abs(theta) / sqrt(v), c(log(1e-12), 0), tol = 1e-13)
out$log_ratio_repeats <- list(
  ratio = exp(theta), standard_error = sqrt(v), df = df_runs, v_more = v_more,
  p_value = exp(level$root), ci_low = exp(theta - critical(0.05) * sqrt(v)),
  ci_high = exp(theta + critical(0.05) * sqrt(v)))

# Mixed models ----------------------------------------------------------------------------------
runs$configuration <- factor(runs$configuration, levels = names(e))
mixed <- function(formula, data, random) {
  fit <- lmerTest::lmer(formula, data = data, REML = TRUE)
  s <- coef(summary(fit))
  sd <- as.data.frame(VarCorr(fit))
  list(means = unname(fixef(fit)[1] + c(0, fixef(fit)[-1])),
       contrast_standard_error = s["configurationgptq8", "Std. Error"],
       df = s["configurationgptq8", "df"], p_value = s["configurationgptq8", "Pr(>|t|)"],
       sd_block = sd$sdcor[sd$grp == "task"],
       sd_run = if (random) sd$sdcor[sd$grp == "run"] else NA,
       sd_residual = sd$sdcor[sd$grp == "Residual"])
}
first <- runs[grepl("0$", runs$run), ]
out$mixed_model <- list(
  one_run = mixed(log_energy ~ configuration + (1 | task), first, FALSE),
  repeats = mixed(log_energy ~ configuration + (1 | task) + (1 | run), runs, TRUE))

# Accuracy --------------------------------------------------------------------------------------
pa <- tasks$pass_gptq4; pb <- tasks$pass_none
gained <- sum(pa > pb); lost <- sum(pa < pb)
# Tango's score test with the restricted maximum likelihood estimate by root finding.
score <- function(delta) {
  f <- function(q) gained / (q + delta) + lost / q - 2 * (n - gained - lost) / (1 - 2 * q - delta)
  q <- uniroot(f, c(max(0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12), tol = 1e-15)$root
  (gained - lost - n * delta) / sqrt(n * (2 * q + delta - delta^2))
}
z <- qnorm(0.975); estimate <- (gained - lost) / n
out$accuracy <- list(
  gained = gained, lost = lost, difference = estimate,
  p_value = binom.test(gained, gained + lost)$p.value,
  mcnemar_chi2 = unname(mcnemar.test(table(factor(pa, 0:1), factor(pb, 0:1)), correct = FALSE)$statistic),
  score_at_0 = score(0),
  ci_low = uniroot(function(x) score(x) - z, c(-0.6, estimate), tol = 1e-14)$root,
  ci_high = uniroot(function(x) score(x) + z, c(estimate, 0.6), tol = 1e-14)$root,
  no_loss_p_value = pnorm(score(-0.15), lower.tail = FALSE))
ra <- (tasks$pass_gptq4 + tasks$pass_gptq8) / 2; rb <- (tasks$pass_none + tasks$pass_gptq8) / 2
tt <- t.test(ra, rb, paired = TRUE)
out$accuracy_rates <- list(
  difference = unname(tt$estimate), p_value = tt$p.value, ci_low = tt$conf.int[1],
  ci_high = tt$conf.int[2],
  no_loss_p_value = t.test(ra, rb, paired = TRUE, mu = -0.1, alternative = "greater")$p.value)
bt <- binom.test(sum(pb), n, p = 0.4, alternative = "greater")
rt <- t.test(rb, mu = 0.4, alternative = "greater")
out$at_least <- list(binary = list(p_value = bt$p.value, lower = bt$conf.int[1]),
                     rates = list(p_value = rt$p.value, lower = rt$conf.int[1]))

out$versions <- c(list(R = as.character(getRversion())),
  sapply(c("car", "lmtest", "sandwich", "lme4", "lmerTest", "effectsize", "rstatix", "e1071",
           "tseries", "fBasics"), function(p) as.character(packageVersion(p)), simplify = FALSE))
write(toJSON(out, digits = I(15), auto_unbox = TRUE, pretty = TRUE, na = "null"), "statistics.json")
