#include "report.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

const unsigned evict_percents[EVICT_SIZES] = {1, 5, 10, 25, 50};

/* part / whole in units of 1 / scale, rounded. */
static uint64_t round_ratio(uint64_t part, uint64_t whole, uint64_t scale)
{
    return (part * scale + whole / 2) / whole;
}

/* How the misses of a policy stand over all traces. */
struct standing {
    uint64_t miss_sums[EVICT_SIZES]; /* of miss ratios, in 1 / 10000 */
    uint64_t over_sum, over_worst;   /* misses by those of the optimum, in 1 / 1000 */
    const struct evict_result *worst;
    size_t worst_size;
    size_t best; /* in so many cases none of the library's policies misses less */
};

static bool is_best(const struct evict_result *result, size_t size, size_t policy)
{
    for (size_t other = EVICT_OWN_FIRST; other < EVICT_OWN_END; other++) {
        if (result->misses[size][other] < result->misses[size][policy])
            return false;
    }
    return true;
}

static struct standing find_standing(const struct evict_result *results, size_t count, size_t policy)
{
    struct standing standing = {.worst = &results[0]};

    for (size_t i = 0; i < count; i++) {
        for (size_t size = 0; size < EVICT_SIZES; size++) {
            const uint64_t misses = results[i].misses[size][policy];
            const uint64_t over = round_ratio(misses, results[i].misses[size][EVICT_OPT], 1000);

            standing.miss_sums[size] += round_ratio(misses, results[i].use_count, 10000);
            standing.over_sum += over;
            standing.best += is_best(&results[i], size, policy);
            if (over > standing.over_worst) {
                standing.over_worst = over;
                standing.worst = &results[i];
                standing.worst_size = size;
            }
        }
    }
    return standing;
}

/* In 1 / 10000 as percent: "12.34". */
static void print_percent(uint64_t ratio)
{
    printf("%llu.%02llu", (unsigned long long)(ratio / 100), (unsigned long long)(ratio % 100));
}

/* In 1 / 1000: "1.23". */
static void print_factor(uint64_t ratio)
{
    const uint64_t hundredths = round_ratio(ratio, 10, 1);

    printf("%llu.%02llu", (unsigned long long)(hundredths / 100), (unsigned long long)(hundredths % 100));
}

void evict_report_text(const struct evict_result *results, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        printf("%s: %zu uses of %zu pages; misses in percent\n  %10s", results[i].name, results[i].use_count,
               results[i].page_count, "cache");
        for (size_t policy = 0; policy < evict_policy_count; policy++)
            printf("  %17s", evict_policies[policy]->title);
        putchar('\n');
        for (size_t size = 0; size < EVICT_SIZES; size++) {
            printf("  %3u %% %4zu", evict_percents[size], results[i].cache_pages[size]);
            for (size_t policy = 0; policy < evict_policy_count; policy++) {
                uint64_t ratio = round_ratio(results[i].misses[size][policy], results[i].use_count, 10000);

                printf("  %14llu.%02llu", (unsigned long long)(ratio / 100), (unsigned long long)(ratio % 100));
            }
            putchar('\n');
        }
        putchar('\n');
    }
}

static void print_head(const char *first)
{
    printf("| %s |", first);
    for (size_t policy = 0; policy < evict_policy_count; policy++)
        printf(" %s |", evict_policies[policy]->title);
    printf("\n|---|");
    for (size_t policy = 0; policy < evict_policy_count; policy++)
        printf("---:|");
    putchar('\n');
}

static void print_standings(const struct evict_result *results, size_t count)
{
    struct standing standings[EVICT_POLICIES_MAX];

    for (size_t policy = 0; policy < evict_policy_count; policy++)
        standings[policy] = find_standing(results, count, policy);
    print_head("over all traces");
    for (size_t size = 0; size < EVICT_SIZES; size++) {
        printf("| misses in a cache of %u %%, mean |", evict_percents[size]);
        for (size_t policy = 0; policy < evict_policy_count; policy++) {
            putchar(' ');
            print_percent(round_ratio(standings[policy].miss_sums[size], count, 1));
            printf(" %% |");
        }
        putchar('\n');
    }
    printf("| misses by those of the optimum, mean |");
    for (size_t policy = 0; policy < evict_policy_count; policy++) {
        putchar(' ');
        print_factor(round_ratio(standings[policy].over_sum, count * EVICT_SIZES, 1));
        printf(" |");
    }
    printf("\n| the same, at worst |");
    for (size_t policy = 0; policy < evict_policy_count; policy++) {
        const struct standing *standing = &standings[policy];

        putchar(' ');
        print_factor(standing->over_worst);
        if (policy != EVICT_OPT)
            printf(" (%s, %u %%)", standing->worst->name, evict_percents[standing->worst_size]);
        printf(" |");
    }
    printf("\n| cases of %zu in which none of the library's misses less |", count * EVICT_SIZES);
    for (size_t policy = 0; policy < evict_policy_count; policy++) {
        if (policy >= EVICT_OWN_FIRST && policy < EVICT_OWN_END)
            printf(" %zu |", standings[policy].best);
        else
            printf(" |");
    }
    putchar('\n');
}

void evict_report_markdown(const struct evict_result *results, size_t count)
{
    print_standings(results, count);
    for (size_t i = 0; i < count; i++) {
        printf("\n### %s\n\n%s %zu uses of %zu pages.\n\n", results[i].name, results[i].what, results[i].use_count,
               results[i].page_count);
        print_head("cache");
        for (size_t size = 0; size < EVICT_SIZES; size++) {
            printf("| %u %%, %zu pages |", evict_percents[size], results[i].cache_pages[size]);
            for (size_t policy = 0; policy < evict_policy_count; policy++) {
                putchar(' ');
                print_percent(round_ratio(results[i].misses[size][policy], results[i].use_count, 10000));
                printf(" %% |");
            }
            putchar('\n');
        }
    }
}

static void write_result(FILE *file, const struct evict_result *result)
{
    fprintf(file, "    {\"trace\": \"%s\", \"uses\": %zu, \"pages\": %zu, \"caches\": [\n", result->name,
            result->use_count, result->page_count);
    for (size_t size = 0; size < EVICT_SIZES; size++) {
        fprintf(file, "      {\"percent\": %u, \"pages\": %zu, \"misses\": {", evict_percents[size],
                result->cache_pages[size]);
        for (size_t policy = 0; policy < evict_policy_count; policy++)
            fprintf(file, "%s\"%s\": %llu", policy > 0 ? ", " : "", evict_policies[policy]->name,
                    (unsigned long long)result->misses[size][policy]);
        fprintf(file, "}}%s\n", size + 1 < EVICT_SIZES ? "," : "");
    }
    fprintf(file, "    ]}");
}

int evict_report_json(const char *path, const struct evict_result *results, size_t count)
{
    FILE *file = fopen(path, "w");
    bool failed;

    if (file == NULL)
        return -errno;
    fprintf(file, "{\n  \"results\": [\n");
    for (size_t i = 0; i < count; i++) {
        write_result(file, &results[i]);
        fprintf(file, i + 1 < count ? ",\n" : "\n");
    }
    fprintf(file, "  ]\n}\n");
    failed = ferror(file) != 0;
    if (fclose(file) != 0)
        return -errno;
    return failed ? -EIO : 0;
}
