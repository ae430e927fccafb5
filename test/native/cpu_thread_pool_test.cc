// The CPU backend's thread pool and work sharing.
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "backend/cpu/cpu_topology.h"
#include "backend/cpu/thread_pool.h"
#include "test.h"

namespace quern::cpu {
namespace {

// Runs `rounds` barriers in which every thread reads what all others wrote in the round before.
void cross_check(uint32_t threads, const std::vector<uint32_t>& cpus, uint32_t rounds) {
  auto created = ThreadPool::create(threads, cpus);
  REQUIRE_OK(created);
  ThreadPool& pool = **created;
  EXPECT_EQ(pool.size(), threads);
  std::vector<uint32_t> written(threads, 0);  // plain memory: the barrier alone must order it
  std::vector<uint32_t> next(threads, 0);
  std::atomic<uint32_t> wrong{0};
  for (uint32_t round = 1; round <= rounds; ++round) {
    pool.run([&](uint32_t thread) {
      for (uint32_t i = 0; i < threads; ++i) {
        if (written[i] != round - 1) wrong.fetch_add(1);
      }
      next[thread] = round;
    });
    written.swap(next);
  }
  EXPECT_EQ(wrong.load(), 0u);
}

}  // namespace

TEST(cpu_pool_barrier_orders_memory) { cross_check(2, read_topology().cpus, 10000); }

TEST(cpu_pool_survives_oversubscription) {
  const std::vector<uint32_t> cpus = read_topology().cpus;
  cross_check(4 * static_cast<uint32_t>(cpus.size()), cpus, 10000);
}

TEST(cpu_pool_wakes_sleeping_threads) {
  auto pool = ThreadPool::create(3, {0, 0, 0});
  REQUIRE_OK(pool);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than any spin
    std::atomic<uint32_t> seen{0};
    (*pool)->run([&](uint32_t thread) { seen.fetch_or(1u << thread); });
    EXPECT_EQ(seen.load(), 7u);
  }
}

TEST(cpu_pool_of_one_calls_directly) {
  auto pool = ThreadPool::create(1, {0});
  REQUIRE_OK(pool);
  const std::thread::id caller = std::this_thread::get_id();
  bool same = false;
  (*pool)->run([&](uint32_t thread) { same = thread == 0 && std::this_thread::get_id() == caller; });
  EXPECT(same);
}

TEST(cpu_work_shares_deal_each_item_once) {
  for (uint32_t threads : {1u, 2u, 3u, 7u}) {
    auto pool = ThreadPool::create(threads, read_topology().cpus);
    REQUIRE_OK(pool);
    WorkShares shares(threads);
    for (uint32_t total : {0u, 1u, 5u, 64u, 997u}) {
      for (uint32_t chunk : {1u, 4u}) {
        std::vector<std::atomic<uint32_t>> taken(total);
        shares.reset(total, chunk);
        (*pool)->run([&](uint32_t thread) {
          for (uint32_t begin = 0, end = 0; shares.next(thread, &begin, &end);) {
            for (uint32_t i = begin; i < end; ++i) taken[i].fetch_add(1);
          }
        });
        for (uint32_t i = 0; i < total; ++i) EXPECT_EQ(taken[i].load(), 1u);
      }
    }
  }
}

TEST(cpu_pool_gives_its_caller_back) {
  cpu_set_t before, inside, after;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  {
    const std::vector<uint32_t> cpus = read_topology().cpus;
    auto pool = ThreadPool::create(static_cast<uint32_t>(cpus.size()), cpus);
    REQUIRE_OK(pool);
    (*pool)->adopt_caller();
    REQUIRE(sched_getaffinity(0, sizeof inside, &inside) == 0);
    EXPECT(CPU_ISSET(cpus[0], &inside));
    if (cpus.size() > 1) EXPECT_EQ(CPU_COUNT(&inside), 1);
    EXPECT_EQ(read_topology().cpus.size(), cpus.size());
  }
  REQUIRE(sched_getaffinity(0, sizeof after, &after) == 0);
  EXPECT(CPU_EQUAL(&before, &after));
}

TEST(cpu_topology_is_usable) {
  const Topology& topology = read_topology();
  REQUIRE(!topology.cpus.empty());
  EXPECT(topology.physical_cores >= 1 && topology.physical_cores <= topology.cpus.size());
  EXPECT_EQ(default_threads(Topology{{0, 1, 2, 3, 4, 5, 6, 7}, 4, 0}), 3u);
  EXPECT_EQ(default_threads(Topology{{0, 1}, 2, 0}), 2u);
  EXPECT_EQ(default_threads(Topology{{0, 1, 2, 3}, 4, 2}), 2u);
  EXPECT_EQ(processors_to_pin(Topology{{0, 1, 2, 3}, 4, 0}, 3).size(), 4u);
  EXPECT(processors_to_pin(Topology{{0, 1, 2, 3}, 4, 0}, 2).empty());
  EXPECT(processors_to_pin(Topology{{0, 1}, 2, 0}, 5).empty());
}

}  // namespace quern::cpu
